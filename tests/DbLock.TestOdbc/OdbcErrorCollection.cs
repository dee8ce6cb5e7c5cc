using System.Collections;

namespace System.Data.Odbc;

/// <summary>The diagnostics records of one failed or noted call.</summary>
public sealed class OdbcErrorCollection : ICollection
{
    private readonly List<OdbcError> _errors = [];

    internal OdbcErrorCollection()
    {
    }

    public int Count => _errors.Count;

    bool ICollection.IsSynchronized => false;

    object ICollection.SyncRoot => this;

    public OdbcError this[int i] => _errors[i];

    public void CopyTo(Array array, int index) => ((ICollection)_errors).CopyTo(array, index);

    public void CopyTo(OdbcError[] array, int index) => _errors.CopyTo(array, index);

    public IEnumerator GetEnumerator() => _errors.GetEnumerator();

    internal void Add(OdbcError error) => _errors.Add(error);

    internal void SetSource(string source) => _errors.ForEach(error => error.Source = source);
}
