using DbLock;
using DbLock.Drivers;

namespace ThirdParty;

/// <summary>The driver's name: <c>LockInterface.Plain</c>, wherever this package is used.</summary>
public static class PlainLockInterface
{
    private static readonly LockInterface Instance = new("Plain", new PlainDriver(), new HashTextDialect());

    extension(LockInterface)
    {
        public static LockInterface Plain => Instance;
    }
}
