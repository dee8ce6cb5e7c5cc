using System.Text.Json;

namespace DbLock.Tests;

/// <summary>The numbers that other libraries lock for the same key.</summary>
public sealed class KeyVectorTests
{
    private static readonly JsonElement Vectors = JsonDocument.Parse(File.ReadAllText(Path.Combine(AppContext.BaseDirectory, "key-vectors.json"))).RootElement;

    private static readonly Dictionary<string, KeyScheme> Schemes = new()
    {
        ["postgresql-lock"] = KeyScheme.PostgresqlLock,
        ["django-pglock"] = KeyScheme.DjangoPglock,
        ["django-pglocks-1"] = KeyScheme.DjangoPglocks1,
        ["django-pglocks-2"] = KeyScheme.DjangoPglocks2,
        ["distributedlock"] = KeyScheme.DistributedLock,
        ["with_advisory_lock"] = KeyScheme.WithAdvisoryLock,
        ["sqlx"] = KeyScheme.Sqlx,
        ["good_job"] = KeyScheme.GoodJob,
        ["pals"] = KeyScheme.Pals,
    };

    [Fact]
    public void Texts_are_the_numbers_of_every_scheme()
    {
        var count = 0;
        foreach (var vector in Vectors.GetProperty("vectors").EnumerateArray())
        {
            var text = vector.GetProperty("key").GetString()!;
            foreach (var (name, scheme) in Schemes)
            {
                AssertNumber(vector.GetProperty(name), LockKey.From(text, scheme), $"{name} of '{text}'");
                count++;
            }
        }

        Assert.Equal(Vectors.GetProperty("vectors").GetArrayLength() * Schemes.Count, count);
        Assert.Equal(Vectors.GetProperty("schemes").EnumerateObject().Select(scheme => scheme.Name), Schemes.Keys);
        Assert.Equal(Enum.GetValues<KeyScheme>(), Schemes.Values);
    }

    [Fact]
    public void Integers_are_the_numbers_of_every_scheme_that_has_them()
    {
        foreach (var vector in Vectors.GetProperty("integers").EnumerateArray())
        {
            var number = vector.GetProperty("key").GetInt64();
            foreach (var expected in vector.EnumerateObject().Where(property => property.Name != "key"))
            {
                AssertNumber(expected.Value, LockKey.From(number, Schemes[expected.Name]), $"{expected.Name} of {number}");
            }
        }
    }

    [Fact]
    public void Numbers_and_pairs_are_shown_as_pg_locks_shows_them()
    {
        foreach (var vector in Vectors.GetProperty("pg_locks").EnumerateArray())
        {
            LockKey key = vector.TryGetProperty("bigint", out var number)
                ? number.GetInt64()
                : (vector.GetProperty("pair")[0].GetInt32(), vector.GetProperty("pair")[1].GetInt32());
            Assert.Equal(
                new PgLocksKey(vector.GetProperty("classid").GetUInt32(), vector.GetProperty("objid").GetUInt32(), vector.GetProperty("objsubid").GetInt16()),
                key.ToPgLocks());
        }
    }

    private static void AssertNumber(JsonElement expected, LockKey key, string what)
    {
        if (expected.TryGetProperty("bigint", out var number))
        {
            Assert.False(key.IsPair, what);
            Assert.True(number.GetInt64() == key.Number, $"{what}: {key.Number}");
        }
        else
        {
            Assert.True(key.IsPair, what);
            Assert.Equal((expected.GetProperty("pair")[0].GetInt32(), expected.GetProperty("pair")[1].GetInt32()), key.Pair);
        }
    }
}
