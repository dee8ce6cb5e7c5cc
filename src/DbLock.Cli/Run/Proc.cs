using System.Globalization;

namespace DbLock.Cli;

/// <summary>The processes of this machine, as /proc shows them.</summary>
internal static class Proc
{
    /// <summary>Gets whether /proc is there, and has the numbers that the system knows this process and its children by.</summary>
    /// <remarks>The /proc of another namespace does not: https://man7.org/linux/man-pages/man7/pid_namespaces.7.html.</remarks>
    public static bool IsOurs { get; } = OperatingSystem.IsLinux()
        && new FileInfo("/proc/self").LinkTarget == Environment.ProcessId.ToString(CultureInfo.InvariantCulture);

    /// <summary>Returns the name of a process; empty when it is gone or hidden.</summary>
    public static string NameOf(int pid)
    {
        if (!IsOurs)
        {
            return "";
        }

        try
        {
            return File.ReadAllText(string.Create(CultureInfo.InvariantCulture, $"/proc/{pid}/comm")).TrimEnd('\n');
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return "";
        }
    }

    /// <summary>Returns the process group of a process; null when it is gone or hidden.</summary>
    public static int? GroupOf(int pid) => Stat(string.Create(CultureInfo.InvariantCulture, $"/proc/{pid}"))?.Group;

    /// <summary>Returns the processes that live. Those that have ended and are not yet collected are left out.</summary>
    public static Dictionary<int, (int Parent, int Session)> All()
    {
        var all = new Dictionary<int, (int Parent, int Session)>();
        foreach (var folder in Directory.Exists("/proc/self") ? Directory.EnumerateDirectories("/proc") : [])
        {
            var name = Path.GetFileName(folder.AsSpan());
            if (int.TryParse(name, NumberStyles.None, CultureInfo.InvariantCulture, out var pid) && Stat(folder) is { IsOver: false } stat)
            {
                all[pid] = (stat.Parent, stat.Session);
            }
        }

        return all;
    }

    // State, parent, group and session are the fields 3 to 6. The name, field 2, may have spaces and brackets in it:
    // https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html
    private static (bool IsOver, int Parent, int Group, int Session)? Stat(string folder)
    {
        try
        {
            var stat = File.ReadAllText(folder + "/stat");
            var fields = stat[(stat.LastIndexOf(')') + 1)..].Split(' ', 6);
            return fields.Length == 6
                && int.TryParse(fields[2], NumberStyles.None, CultureInfo.InvariantCulture, out var parent)
                && int.TryParse(fields[3], NumberStyles.None, CultureInfo.InvariantCulture, out var group)
                && int.TryParse(fields[4], NumberStyles.None, CultureInfo.InvariantCulture, out var session)
                ? (fields[1] is "Z" or "X", parent, group, session)
                : null;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return null;
        }
    }
}
