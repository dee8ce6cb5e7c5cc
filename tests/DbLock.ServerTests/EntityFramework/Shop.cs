using System.Diagnostics.CodeAnalysis;
using Microsoft.EntityFrameworkCore;
using Microsoft.EntityFrameworkCore.Infrastructure;
using Microsoft.EntityFrameworkCore.Migrations;
using Npgsql;

namespace DbLock.ServerTests;

/// <summary>A model that has what models have: schemas, each way to keep heirs, owned entities, entities in several tables, views.</summary>
public sealed class Shop(DbContextOptions options) : DbContext(options)
{
    public DbSet<Order> Orders => Set<Order>();

    public static async Task<Shop> CreateAsync(PostgreSqlTestServer.TestDatabase database, bool retries = false)
    {
        var shop = new Shop(await OptionsAsync(database, retries));
        if (!await shop.Database.GetService<Microsoft.EntityFrameworkCore.Storage.IRelationalDatabaseCreator>().HasTablesAsync())
        {
            await shop.Database.EnsureCreatedAsync();
        }

        return shop;
    }

    public static async Task<DbContextOptions> OptionsAsync(PostgreSqlTestServer.TestDatabase database, bool retries = false) =>
        new DbContextOptionsBuilder().UseNpgsql(await ConnectionStringAsync(database), npgsql =>
        {
            if (retries)
            {
                npgsql.EnableRetryOnFailure(5, TimeSpan.FromMilliseconds(10), null);
            }
        }).Options;

    public static async Task<string> ConnectionStringAsync(PostgreSqlTestServer.TestDatabase database) =>
        new NpgsqlConnectionStringBuilder((await PostgreSqlTestServer.ServerAsync).ConnectionString) { Database = database.Name }.ConnectionString;

    protected override void OnModelCreating(ModelBuilder modelBuilder)
    {
        modelBuilder.Entity<Order>(order =>
        {
            order.ToTable("Orders", "sales");
            order.OwnsMany(o => o.Lines, line => line.ToTable("order.lines", "sales"));
        });
        modelBuilder.Entity<Payment>();
        modelBuilder.Entity<Cheque>();
        modelBuilder.Entity<Person>().UseTptMappingStrategy().ToTable("people");
        modelBuilder.Entity<Employee>().ToTable("employees");
        modelBuilder.Entity<Vehicle>().UseTpcMappingStrategy();
        modelBuilder.Entity<Car>().ToTable("cars");
        modelBuilder.Entity<Van>().ToTable("vans", "fleet");
        modelBuilder.Entity<Article>().ToTable("articles").SplitToTable("article_texts", table => table.Property(article => article.Text));
        modelBuilder.Entity<Total>().HasNoKey().ToSqlQuery("select 1 as \"Sum\"");
    }
}

public sealed class Order
{
    public int Id { get; set; }

    [SuppressMessage("Usage", "CA2227", Justification = "an entity")]
    public ICollection<Line> Lines { get; set; } = [];
}

public sealed class Line
{
    public int Id { get; set; }
}

public class Payment
{
    public int Id { get; set; }
}

public sealed class Cheque : Payment
{
    public int Number { get; set; }
}

public class Person
{
    public int Id { get; set; }
}

public sealed class Employee : Person
{
    public int Room { get; set; }
}

public abstract class Vehicle
{
    public int Id { get; set; }
}

public sealed class Car : Vehicle;

public sealed class Van : Vehicle;

public sealed class Article
{
    public int Id { get; set; }

    public string Title { get; set; } = "";

    public string Text { get; set; } = "";
}

public sealed class Total
{
    public int Sum { get; set; }
}

/// <summary>Two migrations that cannot be run twice; the second builds an index beside the application.</summary>
public sealed class MigratedShop(DbContextOptions options) : DbContext(options);

[DbContext(typeof(MigratedShop)), Migration("1_orders")]
public sealed class CreateOrders : Migration
{
    protected override void Up(MigrationBuilder migrationBuilder) => migrationBuilder.Sql("create table orders (n int); insert into orders values (1)");
}

[DbContext(typeof(MigratedShop)), Migration("2_index")]
public sealed class IndexOrders : Migration
{
    protected override void Up(MigrationBuilder migrationBuilder)
    {
        migrationBuilder.Sql("create index concurrently orders_n on orders (n)", suppressTransaction: true);
        migrationBuilder.Sql("alter table orders add m int; insert into orders values (2)");
    }
}
