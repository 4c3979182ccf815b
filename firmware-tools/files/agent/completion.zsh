#compdef dunlin-agent
_arguments '1:command:(run check status sources install version completion help)' \
  '-config[configuration]:file:_files' '-example[print an example]' \
  '-socket[socket of the agent]:file:_files' '-json[the whole document]' \
  '2:shell:(bash zsh fish)'
