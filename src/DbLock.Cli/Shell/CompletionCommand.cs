using System.CommandLine;

namespace DbLock.Cli;

/// <summary><c>dblock completion</c>: completion for shells, which asks dblock itself.</summary>
internal static class CompletionCommand
{
    private const string Bash = """
        _dblock() {
          local IFS=$'\n' i
          for ((i = 1; i < COMP_CWORD; i++)); do
            [ "${COMP_WORDS[i]}" != -- ] || return 0
          done
          COMPREPLY=($(compgen -W "$(dblock "[suggest:${COMP_POINT}]" "${COMP_LINE}" 2>/dev/null)" -- "${COMP_WORDS[COMP_CWORD]}"))
        }
        complete -o default -F _dblock dblock
        """;

    private const string Zsh = """
        #compdef dblock
        _dblock() {
          local completions=("${(@f)$(dblock "[suggest:${#BUFFER}]" "$BUFFER" 2>/dev/null)}")
          compadd -a completions || _files
        }
        compdef _dblock dblock
        """;

    private const string Fish = """
        complete -c dblock -a '(dblock "[suggest:"(commandline -C)"]" (commandline) 2>/dev/null)'
        """;

    public static Command Create()
    {
        var shell = new Argument<string>("SHELL") { Description = "bash, zsh or fish" };
        shell.AcceptOnlyFromAmong("bash", "zsh", "fish");
        var command = new Command(
            "completion",
            "Prints the completion script of a shell. In ~/.bashrc: source <(dblock completion bash)")
        { shell };
        command.SetAction(parsed =>
        {
            Console.Out.WriteLine(parsed.GetValue(shell) switch
            {
                "bash" => Bash,
                "zsh" => Zsh,
                _ => Fish,
            });
            return ExitCode.Ok;
        });
        return command;
    }
}
