namespace DbLock.Cli;

/// <summary>The parameters of a connection in libpq's own words, each with the place where it was found.</summary>
internal sealed class ConnectionWords
{
    // The words are those of https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-PARAMKEYWORDS. A keyword that is null means
    // that Npgsql cannot do it, and an empty one that the word is not a keyword of Npgsql's by itself.
    private static readonly (string Word, string? Variable, string? Keyword)[] Known =
    [
        ("host", "PGHOST", ""),
        ("hostaddr", "PGHOSTADDR", ""),
        ("port", "PGPORT", ""),
        ("dbname", "PGDATABASE", "Database"),
        ("user", "PGUSER", "Username"),
        ("password", "PGPASSWORD", "Password"),
        ("passfile", "PGPASSFILE", "Passfile"),
        ("sslmode", "PGSSLMODE", "SSL Mode"),
        ("sslcert", "PGSSLCERT", "SSL Certificate"),
        ("sslkey", "PGSSLKEY", "SSL Key"),
        ("sslpassword", null, "SSL Password"),
        ("sslrootcert", "PGSSLROOTCERT", "Root Certificate"),
        ("sslnegotiation", "PGSSLNEGOTIATION", "SSL Negotiation"),
        ("channel_binding", "PGCHANNELBINDING", "Channel Binding"),
        ("require_auth", "PGREQUIREAUTH", "Require Auth"),
        ("krbsrvname", "PGKRBSRVNAME", "Kerberos Service Name"),
        ("load_balance_hosts", "PGLOADBALANCEHOSTS", "Load Balance Hosts"),
        ("application_name", "PGAPPNAME", "Application Name"),
        ("connect_timeout", "PGCONNECT_TIMEOUT", "Timeout"),
        ("options", "PGOPTIONS", "Options"),
        ("target_session_attrs", "PGTARGETSESSIONATTRS", "Target Session Attributes"),
        ("client_encoding", null, "Client Encoding"),
        ("gssencmode", "PGGSSENCMODE", "GSS Encryption Mode"),
        ("requirepeer", "PGREQUIREPEER", null),
        ("sslcrl", "PGSSLCRL", null),
        ("sslcrldir", "PGSSLCRLDIR", null),
        ("sslcertmode", "PGSSLCERTMODE", null),
        ("ssl_min_protocol_version", "PGSSLMINPROTOCOLVERSION", null),
        ("ssl_max_protocol_version", "PGSSLMAXPROTOCOLVERSION", null),
        ("service", "PGSERVICE", ""),
        ("servicefile", "PGSERVICEFILE", ""),
    ];

    // These change neither where the connection leads nor how safe it is, and are passed over.
    private static readonly string[] Harmless =
    [
        "fallback_application_name", "tcp_user_timeout", "sslcompression", "sslsni", "gsslib", "gssdelegation", "min_protocol_version",
        "max_protocol_version",
    ];

    private readonly Dictionary<string, (string Value, string Source)> _said = [];

    public string? Value(string word) => _said.TryGetValue(word, out var said) ? said.Value : null;

    public string Source(string word) => _said.TryGetValue(word, out var said) ? said.Source : word;

    public void Remove(string word) => _said.Remove(word);

    /// <summary>Sets a word, in place of what was said before; an empty value changes nothing.</summary>
    /// <exception cref="UsageException">libpq knows no such word, or dblock does not.</exception>
    public void Set(string word, string value, string source)
    {
        if (word.StartsWith("keepalives", StringComparison.Ordinal) || Harmless.Contains(word))
        {
            return;
        }

        if (!Known.Any(known => known.Word == word))
        {
            var words = string.Join(", ", Known.Where(known => known.Keyword is not null).Select(known => known.Word));
            throw new UsageException($"{source}: there is no such parameter: use {words}");
        }

        if (value.Length > 0)
        {
            _said[word] = (value, source);
        }
    }

    /// <summary>Sets a word that was not said before.</summary>
    public void Add(string word, string value, string source)
    {
        if (!_said.ContainsKey(word))
        {
            Set(word, value, source);
        }
    }

    /// <summary>Adds what the environment's variables say of words that were not said before.</summary>
    public void AddVariables(Func<string, string?> variable)
    {
        foreach (var (word, name, _) in Known)
        {
            if (name is not null && variable(name) is { Length: > 0 } value)
            {
                Add(word, value, name);
            }
        }
    }

    /// <summary>Refuses words that Npgsql cannot obey: without them the connection would be less safe than psql's.</summary>
    /// <exception cref="UsageException">There is such a word.</exception>
    public void RefuseWhatNpgsqlCannot()
    {
        foreach (var (word, _, keyword) in Known)
        {
            // .NET does these anyway.
            var isUsual = (word, Value(word)) is ("sslcertmode", "allow")
                or ("ssl_min_protocol_version", "TLSv1" or "TLSv1.1" or "TLSv1.2")
                or ("ssl_max_protocol_version", "TLSv1.3");
            if (keyword is null && _said.ContainsKey(word) && !isUsual)
            {
                var how = Source(word).StartsWith("PG", StringComparison.Ordinal) ? $" (env -u {Source(word)} dblock …)" : "";
                throw new UsageException(
                    $"{Source(word)} is set, and dblock cannot do what it demands: leave it out for dblock{how}, or demand it of the "
                    + "server");
            }
        }

        if (Value("sslrootcert") == "system")
        {
            throw new UsageException(
                $"{Source("sslrootcert")} is 'system', which dblock does not know: name the file, such as "
                + "/etc/ssl/certs/ca-certificates.crt");
        }
    }

    /// <summary>Returns the words as keywords of Npgsql's, without those that say which server.</summary>
    public IEnumerable<(string Keyword, string Value, string Source)> Keywords() =>
        from known in Known
        where known.Keyword is { Length: > 0 } && _said.ContainsKey(known.Word)
        select (known.Keyword, _said[known.Word].Value, _said[known.Word].Source);
}
