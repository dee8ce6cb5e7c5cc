using System.Data.Common;
using System.Diagnostics.CodeAnalysis;

namespace DbLock;

/// <summary>Locks from a connection, without <c>new Lock(…)</c> and its clash with <c>System.Threading.Lock</c>.</summary>
/// <remarks>
/// The forms that run a method take the method's full name, <c>Namespace.Type.Method</c>, as the key when none is given, as django-pglock's
/// decorator does. Renaming or moving the method then renames its lock: while two versions of a program run side by side, they do not
/// exclude each other. Overloads of a method share one name. A lambda or a local function has no stable name and is refused.
/// </remarks>
public static class DbConnectionExtensions
{
    /// <summary>Makes a lock on a connection. Nothing is sent to the server.</summary>
    /// <param name="connection">The connection that will hold the lock.</param>
    /// <param name="key">The key.</param>
    /// <param name="lockInterface">The driver's name; null finds it from the connection.</param>
    /// <param name="options">How the lock is held; null is an exclusive lock of session scope.</param>
    public static Lock CreateLock(
        this DbConnection connection, LockKey key, LockInterface? lockInterface = null, LockOptions? options = null) =>
        new(connection, key, lockInterface, options);

    /// <summary>Runs a method under a lock, waiting for it.</summary>
    /// <param name="connection">The connection that will hold the lock.</param>
    /// <param name="method">The method.</param>
    /// <param name="key">The key; null is the method's full name.</param>
    /// <param name="timeout">How long to wait; null waits for ever.</param>
    /// <param name="lockInterface">The driver's name; null finds it from the connection.</param>
    /// <param name="options">How the lock is held; null is an exclusive lock of session scope.</param>
    /// <exception cref="ArgumentException">No key was given and the method is a lambda or a local function.</exception>
    /// <exception cref="LockNotAcquiredException">The lock was held elsewhere for the whole timeout. The method did not run.</exception>
    public static void RunLocked(
        this DbConnection connection, Action method, LockKey? key = null, TimeSpan? timeout = null, LockInterface? lockInterface = null,
        LockOptions? options = null)
    {
        using var @lock = ForMethod(connection, method, key, lockInterface, options);
        @lock.Run(method, timeout);
    }

    /// <inheritdoc cref="RunLocked(DbConnection, Action, LockKey?, TimeSpan?, LockInterface?, LockOptions?)"/>
    /// <returns>What the method returns.</returns>
    public static T RunLocked<T>(
        this DbConnection connection, Func<T> method, LockKey? key = null, TimeSpan? timeout = null, LockInterface? lockInterface = null,
        LockOptions? options = null)
    {
        using var @lock = ForMethod(connection, method, key, lockInterface, options);
        return @lock.Run(method, timeout);
    }

    /// <summary>Stops an asynchronous method, which would lose the lock at its first await.</summary>
    /// <param name="connection">The connection.</param>
    /// <param name="method">The method.</param>
    /// <param name="key">The key.</param>
    /// <param name="timeout">The timeout.</param>
    /// <param name="lockInterface">The driver's name.</param>
    /// <param name="options">The options.</param>
    [Obsolete("use RunLockedAsync", error: true)]
    [ExcludeFromCodeCoverage]
    public static void RunLocked(
        this DbConnection connection, Func<Task> method, LockKey? key = null, TimeSpan? timeout = null,
        LockInterface? lockInterface = null, LockOptions? options = null) =>
        throw new NotSupportedException("An asynchronous method needs RunLockedAsync.");

    /// <inheritdoc cref="RunLocked(DbConnection, Func{Task}, LockKey?, TimeSpan?, LockInterface?, LockOptions?)"/>
    [Obsolete("use RunLockedAsync", error: true)]
    [ExcludeFromCodeCoverage]
    public static T RunLocked<T>(
        this DbConnection connection, Func<Task<T>> method, LockKey? key = null, TimeSpan? timeout = null,
        LockInterface? lockInterface = null, LockOptions? options = null) =>
        throw new NotSupportedException("An asynchronous method needs RunLockedAsync.");

    /// <summary>Runs an asynchronous method under a lock, waiting for it.</summary>
    /// <param name="connection">The connection that will hold the lock.</param>
    /// <param name="method">The method. Its token fires when the caller's does, or when the lock is lost.</param>
    /// <param name="key">The key; null is the method's full name.</param>
    /// <param name="timeout">How long to wait; null waits for ever.</param>
    /// <param name="lockInterface">The driver's name; null finds it from the connection.</param>
    /// <param name="options">How the lock is held; null is an exclusive lock of session scope.</param>
    /// <param name="cancellationToken">Ends the wait, and is given to the method.</param>
    /// <inheritdoc cref="RunLocked(DbConnection, Action, LockKey?, TimeSpan?, LockInterface?, LockOptions?)" path="/exception"/>
    public static async Task RunLockedAsync(
        this DbConnection connection, Func<CancellationToken, Task> method, LockKey? key = null, TimeSpan? timeout = null,
        LockInterface? lockInterface = null, LockOptions? options = null, CancellationToken cancellationToken = default)
    {
        var @lock = ForMethod(connection, method, key, lockInterface, options);
        await using (@lock.ConfigureAwait(false))
        {
            await @lock.RunAsync(method, timeout, cancellationToken).ConfigureAwait(false);
        }
    }

    /// <inheritdoc cref="RunLockedAsync(DbConnection, Func{CancellationToken, Task}, LockKey?, TimeSpan?, LockInterface?, LockOptions?,
    /// CancellationToken)"/>
    /// <returns>What the method returns.</returns>
    public static async Task<T> RunLockedAsync<T>(
        this DbConnection connection, Func<CancellationToken, Task<T>> method, LockKey? key = null, TimeSpan? timeout = null,
        LockInterface? lockInterface = null, LockOptions? options = null, CancellationToken cancellationToken = default)
    {
        var @lock = ForMethod(connection, method, key, lockInterface, options);
        await using (@lock.ConfigureAwait(false))
        {
            return await @lock.RunAsync(method, timeout, cancellationToken).ConfigureAwait(false);
        }
    }

    /// <summary>Runs a method under a lock, or skips it when the lock is held elsewhere.</summary>
    /// <param name="connection">The connection that will hold the lock.</param>
    /// <param name="method">The method.</param>
    /// <param name="key">The key; null is the method's full name.</param>
    /// <param name="timeout">How long to wait; zero (default) tries once.</param>
    /// <param name="lockInterface">The driver's name; null finds it from the connection.</param>
    /// <param name="options">How the lock is held; null is an exclusive lock of session scope.</param>
    /// <returns>True when the method ran; false when it was skipped.</returns>
    /// <exception cref="ArgumentException">No key was given and the method is a lambda or a local function.</exception>
    public static bool TryRunLocked(
        this DbConnection connection, Action method, LockKey? key = null, TimeSpan timeout = default, LockInterface? lockInterface = null,
        LockOptions? options = null)
    {
        using var @lock = ForMethod(connection, method, key, lockInterface, options);
        return @lock.TryRun(method, timeout);
    }

    /// <summary>Stops an asynchronous method, which would lose the lock at its first await.</summary>
    /// <param name="connection">The connection.</param>
    /// <param name="method">The method.</param>
    /// <param name="key">The key.</param>
    /// <param name="timeout">The timeout.</param>
    /// <param name="lockInterface">The driver's name.</param>
    /// <param name="options">The options.</param>
    [Obsolete("use TryRunLockedAsync", error: true)]
    [ExcludeFromCodeCoverage]
    public static bool TryRunLocked(
        this DbConnection connection, Func<Task> method, LockKey? key = null, TimeSpan timeout = default,
        LockInterface? lockInterface = null, LockOptions? options = null) =>
        throw new NotSupportedException("An asynchronous method needs TryRunLockedAsync.");

    /// <summary>Runs an asynchronous method under a lock, or skips it when the lock is held elsewhere.</summary>
    /// <param name="connection">The connection that will hold the lock.</param>
    /// <param name="method">The method. Its token fires when the caller's does, or when the lock is lost.</param>
    /// <param name="key">The key; null is the method's full name.</param>
    /// <param name="timeout">How long to wait; zero (default) tries once.</param>
    /// <param name="lockInterface">The driver's name; null finds it from the connection.</param>
    /// <param name="options">How the lock is held; null is an exclusive lock of session scope.</param>
    /// <param name="cancellationToken">Ends the wait, and is given to the method.</param>
    /// <inheritdoc cref="TryRunLocked(DbConnection, Action, LockKey?, TimeSpan, LockInterface?, LockOptions?)" path="/returns"/>
    /// <inheritdoc cref="TryRunLocked(DbConnection, Action, LockKey?, TimeSpan, LockInterface?, LockOptions?)" path="/exception"/>
    public static async Task<bool> TryRunLockedAsync(
        this DbConnection connection, Func<CancellationToken, Task> method, LockKey? key = null, TimeSpan timeout = default,
        LockInterface? lockInterface = null, LockOptions? options = null, CancellationToken cancellationToken = default)
    {
        var @lock = ForMethod(connection, method, key, lockInterface, options);
        await using (@lock.ConfigureAwait(false))
        {
            return await @lock.TryRunAsync(method, timeout, cancellationToken).ConfigureAwait(false);
        }
    }

    private static Lock ForMethod(
        DbConnection connection, Delegate method, LockKey? key, LockInterface? lockInterface, LockOptions? options)
    {
        ArgumentNullException.ThrowIfNull(method);
        return new Lock(connection, key ?? FullName(method), lockInterface, options);
    }

    private static string FullName(Delegate method)
    {
        var type = method.Method.DeclaringType;

        // A lambda and a local function have names that the compiler makes, with characters that no program can write. Such a name changes
        // when code before it changes.
        if (type is null || method.Method.Name.Contains('<', StringComparison.Ordinal) || type.Name.Contains('<', StringComparison.Ordinal))
        {
            throw new ArgumentException(
                "A lambda or a local function has no stable name to take as the key: the compiler names it anew with each change of the "
                + "file. Give a key, or a method.",
                nameof(method));
        }

        var name = $"{type.Name}.{method.Method.Name}";
        for (var outer = type.DeclaringType; outer is not null; outer = outer.DeclaringType)
        {
            name = $"{outer.Name}.{name}";
        }

        return type.Namespace is { } space ? $"{space}.{name}" : name;
    }
}
