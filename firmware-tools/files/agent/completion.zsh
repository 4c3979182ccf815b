#compdef dunlin-agent
_arguments '1:command:(run check status sources install version completion help)' \
  '-config[configuration]:file:_files' '-example[print an example]' \
  '-socket[socket of the agent]:file:_files' '-json[the whole document]' \
  '-ask[ask the chips on an I2C bus]:bus:_files -W /dev -g i2c-*' \
  '-token[line that the hub printed]:line' '-dry-run[only say it]' '-uninstall[take it away]' '-purge[and all that it kept]' \
  '2:shell:(bash zsh fish)'
