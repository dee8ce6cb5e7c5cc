using System.CommandLine;
using System.Data.Common;

namespace DbLock.Cli;

/// <summary><c>dblock run</c>: holds a lock while a command runs.</summary>
internal static class RunCommand
{
    /// <summary>What --help says beyond the options.</summary>
    public const string Details = """
        Exit codes:
          the command's own
          128+n  signal n ended the command, or the wait
          75     the lock was held elsewhere (--conflict-exit-code)
          74     the lock was lost while the command ran, or before it was started
          69     no connection, a server that does not answer, or locks that cannot be trusted
          64     wrong usage
          126    the command cannot be executed
          127    there is no such command

        The command sees:
          DBLOCK_KEY            what is locked: on PostgreSQL the number, or the pair 1,2, elsewhere the name
          DBLOCK_NAME           KEY as it was given
          DBLOCK_SLOT           with --slots: which slot it has, from 1
          DBLOCK_PID            the server's session that holds the lock; none holds a lease
          DBLOCK_FENCING_TOKEN  a number larger than that of every holder before; always there on PostgreSQL and
                                with --lease, on MariaDB and SQL Server where there is the sequence dblock_fencing

        It does not see DBLOCK_CONNECTION (--pass-connection).

        SIGTERM, SIGHUP, SIGINT and SIGQUIT go on to the command and all that it has started, other signals to
        the command; while the lock is waited for, they end the wait. In a terminal, Ctrl-C comes to the command
        from the terminal itself. The lock is held until all that the command has started has ended, but for
        daemons (processes in a session of their own whose parent has ended); with --close, until the command
        has.

        Examples:
          dblock run nightly-report -- ./report --all
          dblock run --nonblock import:42 -- ./import 42 || echo "somebody else is at it"
          dblock run --nonblock --quiet --conflict-exit-code 0 cleanup -- ./cleanup      in a crontab
          dblock run --wait yield --timeout 10m migrations -- ./migrate
          dblock run --slots 4 import -- sh -c './import --scratch "/tmp/$DBLOCK_SLOT"'    four at once, on all hosts
          dblock run --lease 1m --at-least 22h --nonblock nightly-report -- ./report     once a night, on many hosts
          dblock run -c sqlite:locks.db --lease 1m nightly-report -- ./report            without a server
        """;

    public static Command Create()
    {
        var command = new Command("run", "Runs a command while it holds a lock: dblock run nightly-report -- ./report --all");
        var options = RunOptions.AddTo(command);
        command.SetAction((parsed, _) => RunAsync(options.Read(parsed)));
        return command;
    }

    private static async Task<int> RunAsync(RunJob job)
    {
        var (files, failure) = ProgramFile.Find(job.Words[0]);
        if (files.Count == 0)
        {
            var reason = failure == ExitCode.NoSuchCommand ? "there is no such command" : "it cannot be executed";
            Dblock.Say($"{Given.Text(job.Words[0])}: {reason}");
            return failure;
        }

        using var signals = new Signals();
        var teller = new Teller();
        var session = default(RunSession);
        try
        {
            var limit = new RunLimit(job.Timeout);
            if (job.Options.Scope == LockScope.Lease)
            {
                var lease = await LeasedHold.AcquireAsync(job, limit, signals.First).ConfigureAwait(false);
                await using (lease.ConfigureAwait(false))
                {
                    return await new LockedCommand(job, lease, teller.Say).RunAsync(files, signals).ConfigureAwait(false);
                }
            }

            session = await RunSession.OpenAsync(job, limit, signals.First).ConfigureAwait(false);
            await session.PrepareAsync(limit, teller.Say, signals.First).ConfigureAwait(false);
            var acquisition = new LockAcquisition(job, session, limit, teller.Say, signals.First);
            return await acquisition.AcquireAsync().ConfigureAwait(false) is { } watch
                ? await new LockedCommand(job, watch, teller.Say).RunAsync(files, signals).ConfigureAwait(false)
                : job.ConflictExitCode;
        }
        catch (LockNotAcquiredException e)
        {
            // Of a lock of a session it is thrown when the server has ended the wait, which is a failure.
            if (!job.Quiet || job.Options.Scope != LockScope.Lease)
            {
                teller.Say(e.Message);
            }

            return job.ConflictExitCode;
        }
        catch (OperationCanceledException) when (signals.First.IsCancellationRequested)
        {
            return ExitCode.Signal + signals.FirstNumber;
        }
        catch (Exception e) when (e is UnavailableException or DbException or LockException)
        {
            teller.Say(e.Message);
            return ExitCode.Unavailable;
        }
        finally
        {
            // Neither is waited for long: when the process ends, the system closes its connection, and the server ends the session.
            await Task.WhenAll(Closing.Begin(session?.Connection), teller.EndAsync()).ConfigureAwait(false);
        }
    }
}
