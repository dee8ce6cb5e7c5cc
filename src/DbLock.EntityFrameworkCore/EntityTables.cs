using Microsoft.EntityFrameworkCore;
using Microsoft.EntityFrameworkCore.Metadata;

namespace DbLock;

/// <summary>The tables in which a context keeps its entities.</summary>
internal static class EntityTables
{
    /// <summary>
    /// Returns the tables of entities, of the types that inherit from them, and of what they own. A table that the model has without a
    /// schema is looked for along the search_path, as the context itself does.
    /// </summary>
    /// <exception cref="ArgumentException">A type is none of the model's, or has no table.</exception>
    public static TableName[] Of(DbContext context, IEnumerable<Type> entities) =>
        [.. entities.SelectMany(entity => Of(context, entity)).Distinct()];

    private static HashSet<TableName> Of(DbContext context, Type entity)
    {
        ArgumentNullException.ThrowIfNull(entity);
        var types = context.Model.FindEntityTypes(entity).ToList();
        var tables = new HashSet<TableName>();
        foreach (var type in types)
        {
            Add(type, tables, []);
        }

        return tables.Count > 0 ? tables : throw new ArgumentException(
            types.Count == 0
                ? $"{entity.Name} is no entity of {context.GetType().Name}: add it to the model, or name its table with "
                    + "CreateTableLock."
                : $"{entity.Name} is mapped to no table and no view, so that there is nothing to lock.",
            nameof(entity));
    }

    private static void Add(IEntityType type, HashSet<TableName> tables, HashSet<IEntityType> seen)
    {
        if (!seen.Add(type))
        {
            return;
        }

        IEnumerable<ITableMappingBase> mappings = type.GetTableMappings();
        foreach (var mapping in mappings.Any() ? mappings : type.GetViewMappings())
        {
            tables.Add(new TableName(mapping.Table.Schema, mapping.Table.Name));
        }

        foreach (var derived in type.GetDirectlyDerivedTypes())
        {
            Add(derived, tables, seen);
        }

        foreach (var navigation in type.GetNavigations().Where(navigation => navigation.TargetEntityType.IsOwned()))
        {
            Add(navigation.TargetEntityType, tables, seen);
        }
    }
}
