using System.Runtime.InteropServices;

namespace System.Data.Odbc;

/// <summary>
/// An ODBC handle. It keeps its parent alive, and every native call keeps the handle alive: freeing one that another thread
/// is inside of waits for that thread.
/// </summary>
internal class OdbcHandle : SafeHandle
{
    private readonly short _kind;
    private readonly OdbcHandle? _parent;

    internal OdbcHandle(short kind, OdbcHandle? parent)
        : base(0, ownsHandle: true)
    {
        _kind = kind;
        var held = false;
        parent?.DangerousAddRef(ref held);
        if (!Native.Ok(Native.SQLAllocHandle(kind, parent?.DangerousGetHandle() ?? 0, out handle)))
        {
            handle = 0;
            parent?.DangerousRelease();
            throw new InvalidOperationException("ODBC could not allocate a handle.");
        }

        _parent = parent;
    }

    public override bool IsInvalid => handle == 0;

    internal unsafe void ReadDiagnostics(OdbcErrorCollection errors)
    {
        var state = stackalloc char[6];
        var message = new char[1024];
        for (short record = 1; ; record++)
        {
            short code, length;
            int native;
            fixed (char* text = message)
            {
                code = Native.SQLGetDiagRecW(_kind, this, record, state, out native, text, (short)message.Length, out length);
            }

            if (code == Native.SuccessWithInfo && length >= message.Length)
            {
                message = new char[length + 1];
                record--;
            }
            else if (Native.Ok(code))
            {
                errors.Add(new OdbcError(new string(message, 0, length), new string(state, 0, 5), native));
            }
            else
            {
                return;
            }
        }
    }

    protected override bool ReleaseHandle()
    {
        _ = Native.SQLFreeHandle(_kind, handle);
        _parent?.DangerousRelease();
        return true;
    }
}
