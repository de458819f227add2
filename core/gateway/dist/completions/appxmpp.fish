# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_appxmpp_global_optspecs
    string join \n h/help V/version
end

function __fish_appxmpp_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_appxmpp_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_appxmpp_using_subcommand
    set -l cmd (__fish_appxmpp_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c appxmpp -n "__fish_appxmpp_needs_command" -s h -l help -d 'Print help'
complete -c appxmpp -n "__fish_appxmpp_needs_command" -s V -l version -d 'Print version'
complete -c appxmpp -n "__fish_appxmpp_needs_command" -f -a "gateway" -d 'Run the gateway'
complete -c appxmpp -n "__fish_appxmpp_needs_command" -f -a "check" -d 'Check a configuration and say what it means'
complete -c appxmpp -n "__fish_appxmpp_needs_command" -f -a "doctor" -d 'Find out why it does not work: configuration, server, login, webhooks'
complete -c appxmpp -n "__fish_appxmpp_needs_command" -f -a "send" -d 'Send a message through a running gateway'
complete -c appxmpp -n "__fish_appxmpp_needs_command" -f -a "deadletters" -d 'See and settle what the app did not take; needs a gateway with a store that lasts'
complete -c appxmpp -n "__fish_appxmpp_needs_command" -f -a "example" -d 'Print an example configuration with every key'
complete -c appxmpp -n "__fish_appxmpp_needs_command" -f -a "man" -d 'Write the manual pages, one for each command'
complete -c appxmpp -n "__fish_appxmpp_needs_command" -f -a "completions" -d 'Print the completions of a shell'
complete -c appxmpp -n "__fish_appxmpp_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c appxmpp -n "__fish_appxmpp_using_subcommand gateway" -s c -l config -d 'The configuration; without it the environment alone is used' -r -F
complete -c appxmpp -n "__fish_appxmpp_using_subcommand gateway" -s h -l help -d 'Print help'
complete -c appxmpp -n "__fish_appxmpp_using_subcommand check" -s c -l config -d 'The configuration' -r -F
complete -c appxmpp -n "__fish_appxmpp_using_subcommand check" -s h -l help -d 'Print help'
complete -c appxmpp -n "__fish_appxmpp_using_subcommand doctor" -s c -l config -d 'The configuration' -r -F
complete -c appxmpp -n "__fish_appxmpp_using_subcommand doctor" -s h -l help -d 'Print help'
complete -c appxmpp -n "__fish_appxmpp_using_subcommand send" -s c -l config -d 'The configuration of the gateway' -r -F
complete -c appxmpp -n "__fish_appxmpp_using_subcommand send" -l app -d 'Which app sends, by its id, or VERSION.latest.ID for a version of it; needed where there are several' -r
complete -c appxmpp -n "__fish_appxmpp_using_subcommand send" -l from -d 'The sender; the app\'s default one otherwise' -r
complete -c appxmpp -n "__fish_appxmpp_using_subcommand send" -s b -l body -d 'The text; `-` reads it from standard input' -r
complete -c appxmpp -n "__fish_appxmpp_using_subcommand send" -s h -l help -d 'Print help'
complete -c appxmpp -n "__fish_appxmpp_using_subcommand deadletters; and not __fish_seen_subcommand_from list replay purge help" -s c -l config -d 'The configuration of the gateway' -r -F
complete -c appxmpp -n "__fish_appxmpp_using_subcommand deadletters; and not __fish_seen_subcommand_from list replay purge help" -l app -d 'Which app\'s, by its id, or VERSION.latest.ID for a version of it; needed where there are several' -r
complete -c appxmpp -n "__fish_appxmpp_using_subcommand deadletters; and not __fish_seen_subcommand_from list replay purge help" -s h -l help -d 'Print help'
complete -c appxmpp -n "__fish_appxmpp_using_subcommand deadletters; and not __fish_seen_subcommand_from list replay purge help" -f -a "list" -d 'Print them, oldest first: id, time (Unix), reason, path, sender'
complete -c appxmpp -n "__fish_appxmpp_using_subcommand deadletters; and not __fish_seen_subcommand_from list replay purge help" -f -a "replay" -d 'Deliver them again'
complete -c appxmpp -n "__fish_appxmpp_using_subcommand deadletters; and not __fish_seen_subcommand_from list replay purge help" -f -a "purge" -d 'Forget them'
complete -c appxmpp -n "__fish_appxmpp_using_subcommand deadletters; and not __fish_seen_subcommand_from list replay purge help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c appxmpp -n "__fish_appxmpp_using_subcommand deadletters; and __fish_seen_subcommand_from list" -s c -l config -d 'The configuration of the gateway' -r -F
complete -c appxmpp -n "__fish_appxmpp_using_subcommand deadletters; and __fish_seen_subcommand_from list" -l app -d 'Which app\'s, by its id, or VERSION.latest.ID for a version of it; needed where there are several' -r
complete -c appxmpp -n "__fish_appxmpp_using_subcommand deadletters; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help'
complete -c appxmpp -n "__fish_appxmpp_using_subcommand deadletters; and __fish_seen_subcommand_from replay" -s c -l config -d 'The configuration of the gateway' -r -F
complete -c appxmpp -n "__fish_appxmpp_using_subcommand deadletters; and __fish_seen_subcommand_from replay" -l app -d 'Which app\'s, by its id, or VERSION.latest.ID for a version of it; needed where there are several' -r
complete -c appxmpp -n "__fish_appxmpp_using_subcommand deadletters; and __fish_seen_subcommand_from replay" -l all -d 'All there are'
complete -c appxmpp -n "__fish_appxmpp_using_subcommand deadletters; and __fish_seen_subcommand_from replay" -s h -l help -d 'Print help'
complete -c appxmpp -n "__fish_appxmpp_using_subcommand deadletters; and __fish_seen_subcommand_from purge" -s c -l config -d 'The configuration of the gateway' -r -F
complete -c appxmpp -n "__fish_appxmpp_using_subcommand deadletters; and __fish_seen_subcommand_from purge" -l app -d 'Which app\'s, by its id, or VERSION.latest.ID for a version of it; needed where there are several' -r
complete -c appxmpp -n "__fish_appxmpp_using_subcommand deadletters; and __fish_seen_subcommand_from purge" -l all -d 'All there are'
complete -c appxmpp -n "__fish_appxmpp_using_subcommand deadletters; and __fish_seen_subcommand_from purge" -s h -l help -d 'Print help'
complete -c appxmpp -n "__fish_appxmpp_using_subcommand deadletters; and __fish_seen_subcommand_from help" -f -a "list" -d 'Print them, oldest first: id, time (Unix), reason, path, sender'
complete -c appxmpp -n "__fish_appxmpp_using_subcommand deadletters; and __fish_seen_subcommand_from help" -f -a "replay" -d 'Deliver them again'
complete -c appxmpp -n "__fish_appxmpp_using_subcommand deadletters; and __fish_seen_subcommand_from help" -f -a "purge" -d 'Forget them'
complete -c appxmpp -n "__fish_appxmpp_using_subcommand deadletters; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c appxmpp -n "__fish_appxmpp_using_subcommand example" -s h -l help -d 'Print help'
complete -c appxmpp -n "__fish_appxmpp_using_subcommand man" -s h -l help -d 'Print help'
complete -c appxmpp -n "__fish_appxmpp_using_subcommand completions" -s h -l help -d 'Print help'
complete -c appxmpp -n "__fish_appxmpp_using_subcommand help; and not __fish_seen_subcommand_from gateway check doctor send deadletters example man completions help" -f -a "gateway" -d 'Run the gateway'
complete -c appxmpp -n "__fish_appxmpp_using_subcommand help; and not __fish_seen_subcommand_from gateway check doctor send deadletters example man completions help" -f -a "check" -d 'Check a configuration and say what it means'
complete -c appxmpp -n "__fish_appxmpp_using_subcommand help; and not __fish_seen_subcommand_from gateway check doctor send deadletters example man completions help" -f -a "doctor" -d 'Find out why it does not work: configuration, server, login, webhooks'
complete -c appxmpp -n "__fish_appxmpp_using_subcommand help; and not __fish_seen_subcommand_from gateway check doctor send deadletters example man completions help" -f -a "send" -d 'Send a message through a running gateway'
complete -c appxmpp -n "__fish_appxmpp_using_subcommand help; and not __fish_seen_subcommand_from gateway check doctor send deadletters example man completions help" -f -a "deadletters" -d 'See and settle what the app did not take; needs a gateway with a store that lasts'
complete -c appxmpp -n "__fish_appxmpp_using_subcommand help; and not __fish_seen_subcommand_from gateway check doctor send deadletters example man completions help" -f -a "example" -d 'Print an example configuration with every key'
complete -c appxmpp -n "__fish_appxmpp_using_subcommand help; and not __fish_seen_subcommand_from gateway check doctor send deadletters example man completions help" -f -a "man" -d 'Write the manual pages, one for each command'
complete -c appxmpp -n "__fish_appxmpp_using_subcommand help; and not __fish_seen_subcommand_from gateway check doctor send deadletters example man completions help" -f -a "completions" -d 'Print the completions of a shell'
complete -c appxmpp -n "__fish_appxmpp_using_subcommand help; and not __fish_seen_subcommand_from gateway check doctor send deadletters example man completions help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c appxmpp -n "__fish_appxmpp_using_subcommand help; and __fish_seen_subcommand_from deadletters" -f -a "list" -d 'Print them, oldest first: id, time (Unix), reason, path, sender'
complete -c appxmpp -n "__fish_appxmpp_using_subcommand help; and __fish_seen_subcommand_from deadletters" -f -a "replay" -d 'Deliver them again'
complete -c appxmpp -n "__fish_appxmpp_using_subcommand help; and __fish_seen_subcommand_from deadletters" -f -a "purge" -d 'Forget them'
