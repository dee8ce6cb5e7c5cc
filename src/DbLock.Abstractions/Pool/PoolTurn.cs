namespace DbLock;

/// <summary>
/// The turn of a process at one key: for how long its tasks hand the key to each other in memory while other processes wait for it.
/// </summary>
/// <remarks>
/// <para>
/// A process whose turn is over lets the key go, tells the others, and asks for it again after a short time (<see cref="Moment"/>).
/// </para>
/// <para>
/// A process whose round trip to the server is longer than that would never get the key. So a process that was told of a release and still
/// did not get the key takes a claim: a shared advisory lock beside the key, for as long as it waits, whose level rises with each such
/// loss. A process that asks right after its own turn is refused while there is any claim of another. A process that asks because it was
/// told of a release is refused while there is a claim above the first level and above its own.
/// </para>
/// </remarks>
internal struct PoolTurn()
{
    /// <summary>How many grants a turn has at most. A fencing token has room for 1,023 grants in memory.</summary>
    public const int MostHandOvers = 1000;

    /// <summary>How long a turn lasts at most while others wait.</summary>
    public static readonly long Longest = TimeSpan.FromMilliseconds(50).Ticks;

    /// <summary>For how long after its turn a process does not ask for the key, so that others can have it.</summary>
    public static readonly long Moment = TimeSpan.FromMilliseconds(5).Ticks;

    /// <summary>For how long no further task may join those who share the key after a turn, so that the key may become free.</summary>
    public static readonly long Drain = TimeSpan.FromMilliseconds(100).Ticks;

    // A task that has waited for longer than this does not heed claims any more. Such a wait means that a claim does not end, because its
    // process is paused.
    private static readonly long Patience = TimeSpan.FromMilliseconds(500).Ticks;

    // When the turn began; -1 between turns.
    private long _start = -1;

    /// <summary>Gets how often the key was granted since the turn began.</summary>
    public int HandOvers { get; private set; }

    /// <summary>Gets when this process may ask for the key again.</summary>
    public long NotBefore { get; private set; }

    /// <summary>Gets the level of the claim that this process wants; 0 for none.</summary>
    public int Claim { get; private set; }

    /// <summary>Gets or sets the level of the claim that this process has on the server; 0 for none.</summary>
    public int Claimed { get; set; }

    /// <summary>Gets or sets whether the claim is being changed on the server.</summary>
    public bool IsClaiming { get; set; }

    // Whether this process is further from the server than others: it was told of a release once and still did not get the key. From then
    // on it takes a claim at once.
    private bool IsSlow { get; set; }

    /// <summary>Says whether the key may be handed to another task of this process.</summary>
    public bool MayHandOver(long now) => _start >= 0 && HandOvers < MostHandOvers && now - _start < Longest;

    /// <summary>Says whether the turn is over and leaves nothing to remember.</summary>
    public bool IsForgotten(long now) => now >= NotBefore && !MayHandOver(now) && Claim == 0 && Claimed == 0 && !IsClaiming;

    /// <summary>Notes that the server has granted the key.</summary>
    public void Granted(long now)
    {
        HandOvers = _start < 0 ? 0 : HandOvers + 1;
        (_start, NotBefore, Claim) = (_start < 0 ? now : _start, 0, Claimed);
    }

    /// <summary>Notes that the key was handed to another task in memory.</summary>
    public void HandedOver() => HandOvers++;

    /// <summary>Ends the hand-overs of this turn.</summary>
    public void Spend() => HandOvers = MostHandOvers;

    /// <summary>Ends the turn without a pause for others.</summary>
    public void End() => _start = -1;

    /// <summary>Notes that the server has let go of the key.</summary>
    /// <param name="now">The time.</param>
    /// <param name="othersListen">Whether pools of other processes listen, and so may want the key.</param>
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
    /// Notes that another task joins those who share the key. When the turn is over, no more may join for a while, so that the key may
    /// become free. If it does not, a new turn begins.
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

    /// <summary>Notes that the server has refused the key.</summary>
    /// <param name="heardBell">Whether the server was asked because a release was heard of, so that another process was faster.</param>
    public void Refused(bool heardBell)
    {
        IsSlow |= heardBell;
        Claim = IsSlow ? Math.Min(CarriedLock.HighestClaim, Claim + 1) : 0;
    }

    /// <summary>
    /// Wants a claim for the next turn, if this process is slow and its tasks wait for the key. It is taken with the release, before the
    /// other processes have had their turn.
    /// </summary>
    public void ClaimNext(bool isContended) => Claim = IsSlow && isContended ? 1 : 0;

    /// <summary>Gives up the claim, because no task of this process waits for the key any more.</summary>
    public void Abandon() => Claim = 0;

    /// <summary>
    /// Returns the lowest level of claims to heed; 0 to heed none. A process in its turn heeds none, nor does a task that has waited for
    /// long, because a claim of a paused process must not keep others out for ever.
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
