namespace DbLock;

/// <summary>The place of a request in the line of one of its keys.</summary>
internal sealed class PoolPlace(PoolRequest request, PoolEntry entry)
{
    public PoolRequest Request => request;

    public PoolEntry Entry => entry;

    public PoolPlace? Previous { get; set; }

    public PoolPlace? Next { get; set; }
}
