using System.Runtime.InteropServices;

namespace System.Data.Odbc;

/// <summary>A statement's handle and the memory its parameters are bound to.</summary>
internal sealed unsafe class OdbcStatementHandle(OdbcConnectionHandle connection) : OdbcHandle(Native.Statement, connection)
{
    private byte* _parameters;
    private volatile bool _canceling;

    /// <summary>As in System.Data.Odbc, a canceled statement yields no more rows, even if the server never saw the cancel.</summary>
    internal bool Canceling
    {
        get => _canceling;
        set => _canceling = value;
    }

    internal short Bind(OdbcParameterCollection parameters)
    {
        _ = Native.SQLFreeStmt(this, Native.ResetParameters);
        NativeMemory.Free(_parameters);
        _parameters = null;
        if (parameters.Count == 0)
        {
            return Native.Success;
        }

        var bound = new OdbcParameter.Binding[parameters.Count];
        nuint size = 0;
        for (var i = 0; i < bound.Length; i++)
        {
            bound[i] = parameters[i].Bind();
            size += Room(bound[i]);
        }

        var next = _parameters = (byte*)NativeMemory.AllocZeroed(size);
        for (var i = 0; i < bound.Length; next += Room(bound[i]), i++)
        {
            var binding = bound[i];
            var indicator = (nint*)next;
            *indicator = binding.Indicator;
            binding.Data.CopyTo(new Span<byte>(indicator + 1, binding.Data.Length));
            var code = Native.SQLBindParameter(
                this, (ushort)(i + 1), direction: 1, binding.Type.CType, binding.Type.Sql, (nuint)binding.ColumnSize, binding.Scale,
                indicator + 1, binding.Data.Length, indicator);
            if (code != Native.Success)
            {
                return code;
            }
        }

        return Native.Success;
    }

    protected override bool ReleaseHandle()
    {
        var released = base.ReleaseHandle();
        NativeMemory.Free(_parameters);
        return released;
    }

    // The indicator, the value, a terminating null character, rounded up to keep the next indicator aligned.
    private static nuint Room(OdbcParameter.Binding binding) =>
        ((nuint)(sizeof(nint) + binding.Data.Length + sizeof(char)) + 7) & ~(nuint)7;
}
