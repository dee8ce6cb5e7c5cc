using System.Globalization;

namespace DbLock.Cli;

/// <summary>The processes of this machine, as /proc shows them.</summary>
internal static class Proc
{
    /// <summary>Gets whether /proc is there, and has the numbers that the system knows this process and its children by.</summary>
    /// <remarks>The /proc of another namespace does not: https://man7.org/linux/man-pages/man7/pid_namespaces.7.html.</remarks>
    public static bool IsOurs { get; } = OperatingSystem.IsLinux()
        && new FileInfo("/proc/self").LinkTarget == Environment.ProcessId.ToString(CultureInfo.InvariantCulture);

    // Not every kernel is built with these files (CONFIG_PROC_CHILDREN).
    private static bool HasChildren { get; } = IsOurs && File.Exists("/proc/thread-self/children");

    /// <summary>Returns the name of a process; empty when it is gone or hidden.</summary>
    public static string NameOf(int pid)
    {
        if (!IsOurs)
        {
            return "";
        }

        try
        {
            return File.ReadAllText(FolderOf(pid) + "/comm").TrimEnd('\n');
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return "";
        }
    }

    /// <summary>Returns the process group of a process; null when it is gone or hidden.</summary>
    public static int? GroupOf(int pid) => Stat(FolderOf(pid))?.Group;

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

    /// <summary>Returns a process and those below it that live.</summary>
    /// <remarks>
    /// It looks at these alone, which is quick enough to find one that starts another and ends. What ends meanwhile may hide another, so
    /// that only many looks see all: https://man7.org/linux/man-pages/man5/proc_tid_children.5.html
    /// </remarks>
    public static Dictionary<int, (int Parent, int Session)> Below(int top)
    {
        if (!HasChildren)
        {
            return All();
        }

        var all = new Dictionary<int, (int Parent, int Session)>();
        var left = new Queue<int>([top]);
        while (left.TryDequeue(out var pid))
        {
            var folder = FolderOf(pid);
            if (!all.ContainsKey(pid) && Stat(folder) is { IsOver: false } stat)
            {
                all[pid] = (stat.Parent, stat.Session);
                ChildrenOf(folder).ForEach(left.Enqueue);
            }
        }

        return all;
    }

    private static string FolderOf(int pid) => string.Create(CultureInfo.InvariantCulture, $"/proc/{pid}");

    // Each thread has its own.
    private static List<int> ChildrenOf(string folder)
    {
        List<int> children = [];
        try
        {
            foreach (var thread in Directory.EnumerateDirectories(folder + "/task"))
            {
                children.AddRange(File.ReadAllText(thread + "/children").Split(' ', StringSplitOptions.RemoveEmptyEntries)
                    .Select(static pid => int.Parse(pid, CultureInfo.InvariantCulture)));
            }
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // It has ended, or one of its threads has.
        }

        return children;
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
