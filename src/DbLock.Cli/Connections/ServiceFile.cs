using System.Globalization;

namespace DbLock.Cli;

/// <summary>libpq's file of named connections: <c>PGSERVICE</c> names one.</summary>
/// <remarks>https://www.postgresql.org/docs/current/libpq-pgservice.html</remarks>
internal static class ServiceFile
{
    // The folder in which libpq looks is fixed when it is built. These are those of Debian and Red Hat, and others that are common.
    private static readonly string[] SystemFolders =
        ["/etc/postgresql-common", "/etc/sysconfig/pgsql", "/etc", "/usr/local/etc", "/usr/local/pgsql/etc"];

    /// <summary>Adds what the service says whose name is given, if one is.</summary>
    /// <exception cref="UsageException">There is no such service, or its file cannot be understood.</exception>
    public static void AddTo(ConnectionWords words, Func<string, string?> variable)
    {
        var name = words.Value("service") ?? variable("PGSERVICE");
        if (string.IsNullOrEmpty(name))
        {
            return;
        }

        var own = words.Value("servicefile")
            ?? (variable("PGSERVICEFILE") is { Length: > 0 } file ? file : $"{variable("HOME")}/.pg_service.conf");
        var folders = variable("PGSYSCONFDIR") is { Length: > 0 } only ? [only] : SystemFolders;
        string[] files = [own, .. folders.Select(folder => $"{folder}/pg_service.conf")];
        if (!files.Any(path => File.Exists(path) && Read(path, name, words)))
        {
            var who = words.Value("service") is null ? "PGSERVICE" : words.Source("service");
            throw new UsageException(
                $"{who} asks for the service '{name}', which is in no file ({string.Join(", ", files)}): define it there, or name its "
                + "file with PGSERVICEFILE");
        }
    }

    private static bool Read(string path, string name, ConnectionWords words)
    {
        var (found, number) = (false, 0);
        try
        {
            foreach (var line in File.ReadLines(path).Select(line => line.Trim()))
            {
                number++;
                if (line.Length == 0 || line[0] == '#')
                {
                    continue;
                }

                if (line[0] == '[')
                {
                    if (found)
                    {
                        return true;
                    }

                    found = line.StartsWith($"[{name}]", StringComparison.Ordinal);
                }
                else if (found)
                {
                    var pair = line.Split('=', 2);
                    var isLdap = line.StartsWith("ldap", StringComparison.Ordinal) && line.Contains("://", StringComparison.Ordinal);
                    if (pair.Length < 2 || pair[0] is "service" or "servicefile")
                    {
                        var why = isLdap
                            ? "dblock asks no LDAP server: write the connection into the file"
                            : "in a service each line is word=value, and none names another service";
                        throw new UsageException(string.Create(CultureInfo.InvariantCulture, $"{path}, line {number}: {why}"));
                    }

                    words.Add(pair[0], pair[1], string.Create(CultureInfo.InvariantCulture, $"{path}, line {number} ({pair[0]})"));
                }
            }

            return found;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new UsageException($"the service file cannot be read: {e.Message}");
        }
    }
}
