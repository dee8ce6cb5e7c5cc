using System.Data.Common;

namespace DbLock.Tests.Acquiring;

/// <summary>A provider's exception, with the codes that its driver reads.</summary>
internal sealed class ScriptedException(string message, DbError codes) : DbException(message)
{
    public DbError Codes { get; } = codes;
}
