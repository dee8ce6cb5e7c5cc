using System.Text.Json;

namespace DbLock.Cli;

/// <summary>The graph of waits, for people and for programs.</summary>
internal static class BlockedTree
{
    private static readonly string[] Columns =
        ["pid", "blocked_by", "hard", "type", "object", "mode", "wait_s", "user", "application", "query"];

    public static void Write(string format, PgWaitGraph graph, bool wide)
    {
        if (Output.IsJson(format))
        {
            Output.WriteJson(json =>
            {
                json.WriteStartArray();
                var seen = new HashSet<PgWaitNode>();
                foreach (var root in graph.Roots)
                {
                    WriteNode(json, root, seen);
                }

                json.WriteEndArray();
            });
        }
        else if (!Output.IsTable(format))
        {
            var edges = graph.Edges.Concat(graph.QueueEdges).Select(Row).ToList();
            Output.Write(format, Columns, edges);
        }
        else
        {
            Output.WriteLines(Lines(graph, wide));
        }
    }

    /// <summary>Returns the trees from top to bottom, a line for each session.</summary>
    public static List<string> Lines(PgWaitGraph graph, bool wide)
    {
        var (lines, seen) = (new List<string>(), new HashSet<PgWaitNode>());
        var next = new Stack<(PgWaitNode Node, string First, string Below)>(graph.Roots.Reverse().Select(root => (root, "", "")));
        while (next.TryPop(out var item))
        {
            // Each session's own waiters are shown once, however many it waits for.
            var (node, isNew) = (item.Node, seen.Add(item.Node));
            var title = Output.OneLine(
                string.Concat(node, node.IsDeadlocked ? " (deadlock)" : "", isNew || node.Waiters.Count == 0 ? "" : " (see above)"));
            var line = Output.IsTerminal && !wide ? Output.Cut(item.First + title, Output.Width) : item.First + title;
            lines.Add(item.First.Length == 0 ? Output.Styled(Output.Red, line) : line);
            for (var i = isNew ? node.Waiters.Count - 1 : -1; i >= 0; i--)
            {
                var isLast = i == node.Waiters.Count - 1;
                var (branch, below) = Output.IsTerminal ? (isLast ? "└── " : "├── ", isLast ? "    " : "│   ") : ("  ", "  ");
                next.Push((node.Waiters[i], item.Below + branch, item.Below + below));
            }
        }

        return lines is [] && Output.IsTerminal ? ["Nobody waits."] : lines;
    }

    private static object?[] Row(PgWaitEdge edge)
    {
        string[] columns = ["pid", "type", "object", "mode", "wait_s", "user", "application", "query"];
        var waiting = LockRows.Row(edge.Waiting, columns);
        return [waiting[0], (object?)edge.Blocking.Pid ?? edge.Blocking.PreparedTransaction, edge.IsHard, .. waiting[1..]];
    }

    private static void WriteNode(Utf8JsonWriter json, PgWaitNode node, HashSet<PgWaitNode> seen)
    {
        json.WriteStartObject();
        Output.WriteValue(json, "pid", node.Pid);
        Output.WriteValue(json, "prepared_transaction", node.PreparedTransaction);
        Output.WriteValue(json, "user", node.Session?.User);
        Output.WriteValue(json, "application", node.Session?.Application);
        Output.WriteValue(json, "client", node.Session?.Client);
        Output.WriteValue(json, "state", node.Session?.State);
        Output.WriteValue(json, "query", node.Session?.Query);
        Output.WriteValue(json, "held_s", LockRows.Seconds(node.Held?.HeldFor));
        Output.WriteValue(json, "deadlocked", node.IsDeadlocked);
        string[] columns = ["type", "object", "mode", "wait_s"];
        var waiting = node.Waiting is { } @lock ? LockRows.Row(@lock, columns) : [null, null, null, null];
        for (var i = 0; i < columns.Length; i++)
        {
            Output.WriteValue(json, $"waits_for_{columns[i]}".Replace("waits_for_wait_s", "wait_s", StringComparison.Ordinal), waiting[i]);
        }

        json.WriteStartArray("waiters");
        if (seen.Add(node))
        {
            foreach (var waiter in node.Waiters)
            {
                WriteNode(json, waiter, seen);
            }
        }

        json.WriteEndArray();
        json.WriteEndObject();
    }
}
