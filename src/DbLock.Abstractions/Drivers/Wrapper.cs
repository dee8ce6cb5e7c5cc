using System.Data;
using System.Data.Common;
using System.Diagnostics.CodeAnalysis;
using System.Reflection;
using System.Runtime.CompilerServices;

namespace DbLock;

/// <summary>Finds the provider's own connection or transaction inside the wrappers that profilers and tracers put around it.</summary>
/// <remarks>
/// What is found tells the driver, the session and the pool. Commands still go through the object that the caller gave. A wrapper in which
/// nothing is found stands for itself, and is refused where the session must be known.
/// </remarks>
internal static class Wrapper
{
    /// <summary>Returns the provider's own connection; the connection itself when it wraps none that can be found.</summary>
    public static DbConnection Innermost(DbConnection connection) => Sight<DbConnection>.Innermost(connection);

    /// <summary>Returns the provider's own transaction; the transaction itself when it wraps none that can be found.</summary>
    public static DbTransaction Innermost(DbTransaction transaction) => Sight<DbTransaction>.Innermost(transaction);

    /// <summary>
    /// Returns the transaction to put on the commands of a connection. Commands of a provider's own connection accept no wrapper of a
    /// transaction.
    /// </summary>
    public static DbTransaction? TransactionOf(DbConnection connection, DbTransaction? transaction) =>
        transaction is null || Innermost(connection) != connection ? transaction : Innermost(transaction);

    /// <summary>How the inner object is found in objects of one type.</summary>
    private sealed class Sight<T>
        where T : class
    {
        // How many wrappers may lie around each other. Wrappers that contain each other in a circle have no innermost object.
        private const int MostLayers = 16;

        private const BindingFlags Declared =
            BindingFlags.Instance | BindingFlags.Public | BindingFlags.NonPublic | BindingFlags.DeclaredOnly;

        private const string Trimmed = "A wrapper whose members are trimmed away cannot be seen through, and is refused where that "
            + "matters.";

        // The names that common wrappers have for the property: WrappedConnection (MiniProfiler), InnerTransaction, and so on.
        private static readonly string[] Names =
            [.. new[] { "Wrapped", "Inner", "Base", "Underlying", "Original", "Real", "Actual" }.Select(
                name => name + typeof(T).Name["Db".Length..])];

        private static readonly ConditionalWeakTable<Type, Sight<T>> OfTypes = [];

        private readonly PropertyInfo? _property;
        private readonly FieldInfo[] _fields;

        private Sight(PropertyInfo? property, FieldInfo[] fields) => (_property, _fields) = (property, fields);

        public static T Innermost(T outer)
        {
            for (var layer = 0; layer < MostLayers; layer++)
            {
                if (OfTypes.GetValue(outer.GetType(), static type => Of(type)).Inner(outer) is not { } inner)
                {
                    return outer;
                }

                outer = inner;
            }

            return outer;
        }

        [UnconditionalSuppressMessage("Trimming", "IL2070", Justification = Trimmed)]
        [UnconditionalSuppressMessage("Trimming", "IL2075", Justification = Trimmed)]
        private static Sight<T> Of(Type type)
        {
            var found = Array.ConvertAll(Names, name => type.GetProperty(name, BindingFlags.Instance | BindingFlags.Public));
            var property = Array.Find(
                found, one => one is { CanRead: true } && one.GetIndexParameters().Length == 0 && MayBe(one.PropertyType));
            List<FieldInfo> fields = [];
            for (var declaring = type; property is null && declaring is not null && declaring != typeof(T); declaring = declaring.BaseType)
            {
                fields.AddRange(declaring.GetFields(Declared).Where(field => MayBe(field.FieldType)));
            }

            return new Sight<T>(property, [.. fields]);

            static bool MayBe(Type type) =>
                typeof(T).IsAssignableFrom(type) || type == typeof(IDbConnection) || type == typeof(IDbTransaction);
        }

        private T? Inner(T outer)
        {
            if (_property is null && _fields.Length == 0)
            {
                return null;
            }

            try
            {
                if (_property is not null)
                {
                    return Other(_property.GetValue(outer));
                }
            }
            catch (TargetInvocationException)
            {
                // The wrapper was disposed, or has no inner object yet.
                return null;
            }

            T? inner = null;
            foreach (var field in _fields)
            {
                if (Other(field.GetValue(outer)) is { } found)
                {
                    if (inner is not null && inner != found)
                    {
                        // The wrapper has several, and it is not known to which of them it sends a command.
                        return null;
                    }

                    inner = found;
                }
            }

            return inner;

            T? Other(object? value) => value is T other && other != outer ? other : null;
        }
    }
}
