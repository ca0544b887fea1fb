#compdef waybill
# Completions of waybill for zsh: waybill completions zsh >"${fpath[1]}/_waybill"
_waybill() {
    local line
    local -a values shown ending
    while IFS= read -r line; do
        case $line in
            :2|:6) ending=(-S '') ;;
            :*) ;;
            *) values+=("${line%%$'\t'*}"); shown+=("${line/$'\t'/  -- }") ;;
        esac
    done < <("${(Q)words[1]}" __complete "${(@Q)words[2,CURRENT]}" 2>/dev/null)
    compadd "${ending[@]}" -l -d shown -a values
}
if [[ ${funcstack[1]} == _waybill ]]; then
    _waybill "$@"
else
    compdef _waybill waybill
fi
