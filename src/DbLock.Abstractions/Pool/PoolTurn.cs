namespace DbLock;

/// <summary>
/// The turn of a process at one key: how long its tasks hand the key to each other in memory while other processes wait for it.
/// </summary>
/// <remarks>
/// A process whose turn is over lets the key go, rings, and asks for it again after a moment. Who is further from the server than that
/// moment would never come first. So who lost the key although it heard the bell takes a claim: an advisory lock that stands for its wait,
/// of a level that rises with each loss. Who asks after its own turn is refused while there is any claim, and who answers a bell while
/// there is one above the first level and its own.
/// </remarks>
internal sealed class PoolTurn
{
    /// <summary>How often a key is handed over in a turn. A fencing token has room for 1,023 grants in memory.</summary>
    public const int MostHandOvers = 1000;

    /// <summary>How long a turn lasts while others wait.</summary>
    public static readonly long Longest = TimeSpan.FromMilliseconds(50).Ticks;

    /// <summary>How long others are let go first after a turn.</summary>
    public static readonly long Moment = TimeSpan.FromMilliseconds(5).Ticks;

    /// <summary>How long those who share the key get no company after a turn, so that they may come to an end.</summary>
    public static readonly long Drain = TimeSpan.FromMilliseconds(100).Ticks;

    // A turn is bounded by these two: who waited so long that it doubts the claims of others does not heed them.
    private static readonly long Patience = TimeSpan.FromMilliseconds(500).Ticks;

    // -1 between turns.
    private long _start = -1;

    /// <summary>Gets how often the key was granted here since the turn began.</summary>
    public int HandOvers { get; private set; }

    /// <summary>Gets until when other processes have their turn.</summary>
    public long NotBefore { get; private set; }

    /// <summary>Gets the level of the claim that this process wants to have; 0 for none.</summary>
    public int Claim { get; private set; }

    /// <summary>Gets or sets the level of the claim that this process has on the server; 0 for none.</summary>
    public int Claimed { get; set; }

    /// <summary>Gets or sets whether the claim is being changed.</summary>
    public bool IsClaiming { get; set; }

    // A process that lost the key once although it heard the bell is slower than others: it claims at once from then on.
    private bool IsSlow { get; set; }

    /// <summary>Says whether the key may be handed to another task of this process.</summary>
    public bool MayHandOver(long now) => _start >= 0 && HandOvers < MostHandOvers && now - _start < Longest;

    /// <summary>Says whether the turn, or the memory of it, is of no more use.</summary>
    public bool IsForgotten(long now) => now >= NotBefore && !MayHandOver(now) && Claim == 0 && Claimed == 0 && !IsClaiming;

    /// <summary>The server has granted the key.</summary>
    public void Granted(long now)
    {
        HandOvers = _start < 0 ? 0 : HandOvers + 1;
        (_start, NotBefore, Claim) = (_start < 0 ? now : _start, 0, Claimed);
    }

    /// <summary>The key was granted in memory.</summary>
    public void HandedOver() => HandOvers++;

    /// <summary>The key is handed to nobody any more.</summary>
    public void Spend() => HandOvers = MostHandOvers;

    /// <summary>The turn is over without a wait for others.</summary>
    public void End() => _start = -1;

    /// <summary>The server has let go of the key.</summary>
    /// <param name="now">The time.</param>
    /// <param name="othersListen">Whether another process may want it.</param>
    public void LetGo(long now, bool othersListen)
    {
        if (!othersListen)
        {
            _start = -1;
        }
        else if (MayHandOver(now))
        {
            NotBefore = 0;
        }
        else
        {
            (_start, NotBefore) = (-1, now + Moment);
        }
    }

    /// <summary>
    /// Another task joins those who share the key. When the turn is another process's, no more come for a moment, so that those who share
    /// it may come to an end. If they do not, a new turn begins.
    /// </summary>
    public void Join(long now, bool othersListen)
    {
        if (!othersListen || MayHandOver(now))
        {
            NotBefore = 0;
        }
        else if (NotBefore == 0)
        {
            NotBefore = now + Drain;
        }
        else if (now >= NotBefore)
        {
            (NotBefore, _start, HandOvers) = (0, now, 0);
        }
    }

    /// <summary>The server has refused the key.</summary>
    /// <param name="heardBell">Whether it was asked because a release was heard of, so that somebody was faster.</param>
    public void Refused(bool heardBell)
    {
        IsSlow |= heardBell;
        Claim = IsSlow ? Math.Min(CarriedLock.HighestClaim, Claim + 1) : 0;
    }

    /// <summary>
    /// The key is let go. A slow process whose tasks wait for it claims its next turn with the release, before the others have had theirs.
    /// </summary>
    public void ClaimNext(bool isContended) => Claim = IsSlow && isContended ? 1 : 0;

    /// <summary>Nobody of this process waits for the key any more.</summary>
    public void Abandon() => Claim = 0;

    /// <summary>
    /// Returns the least level of the claims to heed; 0 for none. Who is in its turn heeds none, nor who has waited for long: a claim of a
    /// paused process must not outlast that.
    /// </summary>
    /// <param name="answersBell">Whether the key is asked for because a release was heard of.</param>
    /// <param name="interval">How long its task waits to be asked again; 0 before the server has said that another process has it.</param>
    /// <param name="now">The time.</param>
    public int Heeds(bool answersBell, long interval, long now)
    {
        if (MayHandOver(now) || interval >= Patience)
        {
            return 0;
        }

        var level = answersBell ? Math.Max(1, Claimed) : interval > 0 ? Claimed : 0;
        return level < CarriedLock.HighestClaim ? level + 1 : 0;
    }
}
