using System.Data.Common;
using DbLock;
using DbLock.Drivers;
using DbLock.Specification;
using Xunit.Sdk;
using Xunit.v3;

// Every test has keys and connections of its own, and most of the time waits for the server.
[assembly: Parallelization(Mode = ParallelMode.All, MaxThreads = 8)]

namespace ThirdParty.Tests;

/// <summary>The driver on its server: what <c>DbLock.Specification</c> demands, and what the two cannot.</summary>
public sealed class PlainOnPostgreSql() : LockSpecification(HashTextServer.Instance, LockInterface.Plain)
{
    protected override bool AnErrorAbortsTheTransaction => true;

    protected override bool ShowsEnlistment => false;

    // No package of DbLock's that serves Npgsql is here.
    protected override LockInterface? Found => null;

    protected override Task<DbConnection> ConnectAsync() => HashTextServer.OpenAsync();
}
