using System.Text.Json;
using Spectre.Console;
using Spectre.Console.Rendering;

namespace DbLock.Cli;

/// <summary>The graph of waits, for people and for programs.</summary>
internal static class BlockedTree
{
    private static readonly string[] Columns = ["pid", "blocked_by", "hard", "type", "object", "mode", "wait_s", "user", "application", "query"];

    public static void Write(string format, PgWaitGraph graph)
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
        else if (Output.IsTerminal)
        {
            AnsiConsole.Write(ToTree(graph));
        }
        else
        {
            Console.Out.Write(Output.Clean(graph.ToString()));
        }
    }

    /// <summary>Returns the trees, side by side from top to bottom.</summary>
    public static IRenderable ToTree(PgWaitGraph graph)
    {
        if (graph.Roots.Count == 0)
        {
            return new Text("Nobody waits.\n");
        }

        var seen = new HashSet<PgWaitNode>();
        return new Rows(graph.Roots.Select(root =>
        {
            var tree = new Tree(new Text(Title(root), new Style(Color.Red)));
            seen.Add(root);
            Add(tree, root, seen);
            return tree;
        }));
    }

    // Each session's own waiters are shown once, however many it waits for.
    private static void Add(IHasTreeNodes parent, PgWaitNode node, HashSet<PgWaitNode> seen)
    {
        foreach (var waiter in node.Waiters)
        {
            var added = parent.AddNode(new Text(Title(waiter)));
            if (seen.Add(waiter))
            {
                Add(added, waiter, seen);
            }
        }
    }

    private static string Title(PgWaitNode node) => Output.Clean(node.IsDeadlocked ? $"{node} (deadlock)" : node.ToString()).Replace('\n', ' ');

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
