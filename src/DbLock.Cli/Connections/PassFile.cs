using System.Text;

namespace DbLock.Cli;

/// <summary>
/// libpq's file of passwords, looked up under the name that psql would use, which is not always the place where the connection leads.
/// </summary>
/// <remarks>https://www.postgresql.org/docs/current/libpq-pgpass.html</remarks>
internal static class PassFile
{
    private const UnixFileMode Others = UnixFileMode.GroupRead | UnixFileMode.GroupWrite | UnixFileMode.GroupExecute
        | UnixFileMode.OtherRead | UnixFileMode.OtherWrite | UnixFileMode.OtherExecute;

    /// <summary>Returns the password of the first line that matches; null when there is none.</summary>
    public static string? Find(string? path, string host, string port, string? database, string? user, Func<string, string?> variable)
    {
        user ??= Environment.UserName;
        path ??= $"{variable("HOME")}/.pgpass";

        // In the file, localhost stands for a socket in its usual folder, too.
        string[] wanted = [host is "/var/run/postgresql" or "/run/postgresql" or "/tmp" ? "localhost" : host, port, database ?? user, user];
        try
        {
            if (!File.Exists(path))
            {
                return null;
            }

            if ((File.GetUnixFileMode(path) & Others) != 0)
            {
                Dblock.Say($"the file of passwords {path} is passed over, because others may read or write it: chmod 600 {path}");
                return null;
            }

            return File.ReadLines(path)
                .Where(line => line.Length > 0 && line[0] != '#')
                .Select(Split)
                .Where(fields => fields.Count >= 5)
                .FirstOrDefault(fields => wanted.Zip(fields).All(pair => pair.Second == "*" || pair.Second == pair.First))?[4];
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return null;
        }
    }

    private static List<string> Split(string line)
    {
        var (fields, field) = (new List<string>(), new StringBuilder());
        for (var i = 0; i < line.Length; i++)
        {
            if (line[i] == ':' && fields.Count < 4)
            {
                fields.Add(field.ToString());
                field.Clear();
            }
            else
            {
                field.Append(line[i] == '\\' && i + 1 < line.Length ? line[++i] : line[i]);
            }
        }

        fields.Add(field.ToString());
        return fields;
    }
}
