namespace DbLock.Tests;

/// <summary>The names of tables.</summary>
public sealed class TableNameTests
{
    [Theory]
    [InlineData("orders", null, "orders", "\"orders\"")]
    [InlineData("Orders", null, "Orders", "\"Orders\"")]
    [InlineData("sales.orders", "sales", "orders", "\"sales\".\"orders\"")]
    [InlineData("\"orders.2026\"", null, "orders.2026", "\"orders.2026\"")]
    [InlineData("\"my \"\"schema\"\"\".\"a.b\"", "my \"schema\"", "a.b", "\"my \"\"schema\"\"\".\"a.b\"")]
    [InlineData("sales.\"\"\"\"", "sales", "\"", "\"sales\".\"\"\"\"")]
    [InlineData("with space; {0} :a @b $1", null, "with space; {0} :a @b $1", "\"with space; {0} :a @b $1\"")]
    [InlineData("größe.表", "größe", "表", "\"größe\".\"表\"")]
    [InlineData("\U0001F512", null, "\U0001F512", "\"\U0001F512\"")]
    public void A_text_is_read_as_sql_writes_names_and_kept_as_it_is(string text, string? schema, string name, string sql)
    {
        TableName table = text;
        Assert.Equal((schema, name, false), (table.Schema, table.Name, table.Only));
        Assert.Equal(sql, table.ToString());
        Assert.Equal(table, TableName.Parse(sql));
        Assert.Equal(table, new TableName(schema, name));
    }

    [Theory]
    [InlineData("")]
    [InlineData(".")]
    [InlineData("a.")]
    [InlineData(".a")]
    [InlineData("a..b")]
    [InlineData("a.b.c")]
    [InlineData("\"\"")]
    [InlineData("\"a")]
    [InlineData("\"a\"\"")]
    [InlineData("a\"b")]
    [InlineData("\"a\"b")]
    [InlineData("\"a\" .b")]
    [InlineData("a\0b")]
    public void What_is_no_name_is_refused(string text) => Assert.Throws<ArgumentException>(() => TableName.Parse(text));

    [Fact]
    public void Parts_are_taken_whole()
    {
        Assert.Equal("\"a.b\"", new TableName("a.b").ToString());
        TableName parts = ("s.t", "a\"b");
        Assert.Equal("\"s.t\".\"a\"\"b\"", parts.ToString());
        Assert.Equal("only \"a\"", new TableName("a") { Only = true }.ToString());
        Assert.NotEqual(new TableName("a"), new TableName("a") { Only = true });
        Assert.Throws<ArgumentException>(() => new TableName("", "a"));
        Assert.Throws<ArgumentException>(() => new TableName("s", ""));
        Assert.Throws<ArgumentException>(() => new TableName("s", "half \uD83D"));
        Assert.Throws<ArgumentException>(() => new TableName("\uDD12", "a"));
        Assert.Throws<ArgumentNullException>(() => new TableName(null!));
        Assert.Throws<ArgumentNullException>(() => TableName.Parse(null!));
    }
}
