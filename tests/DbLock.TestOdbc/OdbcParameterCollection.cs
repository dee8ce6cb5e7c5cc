using System.Collections;
using System.Data.Common;

namespace System.Data.Odbc;

public sealed class OdbcParameterCollection : DbParameterCollection
{
    private readonly List<OdbcParameter> _parameters = [];

    internal OdbcParameterCollection()
    {
    }

    public override int Count => _parameters.Count;

    public override object SyncRoot => ((ICollection)_parameters).SyncRoot;

    public new OdbcParameter this[int index]
    {
        get => _parameters[index];
        set => _parameters[index] = value;
    }

    public new OdbcParameter this[string parameterName]
    {
        get => (OdbcParameter)GetParameter(parameterName);
        set => SetParameter(parameterName, value);
    }

    public OdbcParameter Add(OdbcParameter value)
    {
        _parameters.Add(value);
        return value;
    }

    public OdbcParameter Add(string parameterName, OdbcType odbcType) => Add(new OdbcParameter(parameterName, odbcType));

    public OdbcParameter AddWithValue(string parameterName, object? value) => Add(new OdbcParameter(parameterName, value));

    public override int Add(object value)
    {
        Add((OdbcParameter)value);
        return Count - 1;
    }

    public override void AddRange(Array values) => _parameters.AddRange(values.Cast<OdbcParameter>());

    public override void Clear() => _parameters.Clear();

    public override bool Contains(object value) => IndexOf(value) >= 0;

    public override bool Contains(string value) => IndexOf(value) >= 0;

    public override void CopyTo(Array array, int index) => ((ICollection)_parameters).CopyTo(array, index);

    public override IEnumerator GetEnumerator() => _parameters.GetEnumerator();

    public override int IndexOf(object value) => _parameters.IndexOf((OdbcParameter)value);

    public override int IndexOf(string parameterName) =>
        _parameters.FindIndex(parameter => parameter.ParameterName.Equals(parameterName, StringComparison.OrdinalIgnoreCase));

    public override void Insert(int index, object value) => _parameters.Insert(index, (OdbcParameter)value);

    public override void Remove(object value) => _parameters.Remove((OdbcParameter)value);

    public override void RemoveAt(int index) => _parameters.RemoveAt(index);

    public override void RemoveAt(string parameterName) => RemoveAt(Find(parameterName));

    protected override DbParameter GetParameter(int index) => _parameters[index];

    protected override DbParameter GetParameter(string parameterName) => _parameters[Find(parameterName)];

    protected override void SetParameter(int index, DbParameter value) => _parameters[index] = (OdbcParameter)value;

    protected override void SetParameter(string parameterName, DbParameter value) => SetParameter(Find(parameterName), value);

    private int Find(string name) =>
        IndexOf(name) is var index and >= 0
            ? index
            : throw new IndexOutOfRangeException(
                $"An {nameof(OdbcParameter)} with ParameterName '{name}' is not contained by this {nameof(OdbcParameterCollection)}.");
}
