using System.Globalization;
using System.Runtime.InteropServices;
using DbLock.Torture;

if (args is ["worker", .. var words])
{
    return await Worker.RunAsync(words);
}

var (minutes, seed, sabotage, until, server, locks) = (2.0, Random.Shared.Next(1_000_000), "", "", "", "");
for (var i = 0; i < args.Length; i++)
{
    var value = i + 1 < args.Length ? args[i + 1] : "";
    switch (args[i])
    {
        case "--minutes" when double.TryParse(value, CultureInfo.InvariantCulture, out minutes) && minutes is > 0 and <= 1440:
        case "--seed" when int.TryParse(value, CultureInfo.InvariantCulture, out seed):
            break;
        case "--server" when value is "postgresql" or "mariadb":
            server = value;
            break;
        case "--locks" when value is "sessions" or "leases":
            locks = value;
            break;
        case "--sabotage" when value is "unlocked" or "deaf" or "leak":
            sabotage = value;
            break;
        case "--until":
            until = value;
            break;
        default:
            Console.Error.WriteLine(
                $"""
                '{string.Join(' ', args[i..])}' is not understood.
                --minutes N    how long, from above 0 to 1440; 2 when left out
                --seed S       a whole number, of which faults and attempts are drawn; by chance when left out
                --server S     postgresql or mariadb; both when left out
                --locks L      sessions or leases; both when left out
                --sabotage K   does what a faulty library would, and must be found out: unlocked, deaf or leak
                --until R      ends a sabotage with a violation that the regular expression matches; with the first when left out
                """);
            return 2;
    }

    i++;
}

List<Campaign> campaigns = [];
foreach (var rules in new[] { Rules.OfSessions, Rules.OfLeases }.Where(rules => locks.Length == 0 || rules.IsLease == (locks == "leases")))
{
    if (server != "mariadb")
    {
        campaigns.Add(new PostgreSqlCampaign(TimeSpan.FromMinutes(minutes), seed, (sabotage, until), rules));
    }

    if (server != "postgresql")
    {
        campaigns.Add(new MariaDbCampaign(TimeSpan.FromMinutes(minutes), seed, (sabotage, until), rules));
    }
}

// A worker that is paused at that moment would stay for ever.
using var interrupted = PosixSignalRegistration.Create(PosixSignal.SIGINT, _ => campaigns.ForEach(campaign => campaign.KillWorkers()));
using var terminated = PosixSignalRegistration.Create(PosixSignal.SIGTERM, _ => campaigns.ForEach(campaign => campaign.KillWorkers()));
try
{
    return (await Task.WhenAll(campaigns.Select(campaign => campaign.RunAsync()))).Max();
}
finally
{
    await Task.WhenAll(campaigns.Select(campaign => campaign.DisposeAsync().AsTask()));
}
