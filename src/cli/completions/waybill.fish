# Completions of waybill for fish: waybill completions fish | source
function __waybill_complete
    set -l words (commandline -opc)
    $words[1] __complete $words[2..-1] (commandline -ct) 2>/dev/null | string match -rv '^:\d+$'
end
complete -c waybill -f -a '(__waybill_complete)'
