complete -c dunlin-agent -f
complete -c dunlin-agent -n __fish_use_subcommand -a "run check status sources install version completion help"
complete -c dunlin-agent -n "__fish_seen_subcommand_from completion" -a "bash zsh fish"
complete -c dunlin-agent -o config -r -F -d configuration
complete -c dunlin-agent -n "__fish_seen_subcommand_from check" -o example -d "print an example"
complete -c dunlin-agent -n "__fish_seen_subcommand_from status" -o socket -r -F
complete -c dunlin-agent -n "__fish_seen_subcommand_from status sources" -o json -d "the whole document"
