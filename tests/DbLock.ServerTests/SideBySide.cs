using Xunit.Sdk;
using Xunit.v3;

// Every test has keys and connections of its own. Most of the time they wait for the server, so that more of them run at once than there are cores.
[assembly: Parallelization(Mode = ParallelMode.All, MaxThreads = 8)]
