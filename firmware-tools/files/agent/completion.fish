complete -c dunlin-agent -f
complete -c dunlin-agent -n __fish_use_subcommand -a "run check status sources install version completion help"
complete -c dunlin-agent -n "__fish_seen_subcommand_from completion" -a "bash zsh fish"
complete -c dunlin-agent -o config -r -F -d configuration
complete -c dunlin-agent -n "__fish_seen_subcommand_from check" -o example -d "print an example"
complete -c dunlin-agent -n "__fish_seen_subcommand_from status" -o socket -r -F
complete -c dunlin-agent -n "__fish_seen_subcommand_from status sources" -o json -d "the whole document"
complete -c dunlin-agent -n "__fish_seen_subcommand_from sources" -o ask -x -a "(ls /dev/i2c-* 2>/dev/null)" -d "ask the chips on an I2C bus"
complete -c dunlin-agent -n "__fish_seen_subcommand_from install" -o token -x -d "line that the hub printed"
complete -c dunlin-agent -n "__fish_seen_subcommand_from install" -o dry-run -d "only say it"
complete -c dunlin-agent -n "__fish_seen_subcommand_from install" -o uninstall -d "take it away"
complete -c dunlin-agent -n "__fish_seen_subcommand_from install" -o purge -d "and all that it kept"
