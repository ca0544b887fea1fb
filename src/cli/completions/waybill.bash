# Completions of waybill for Bash: source <(waybill completions bash)
_waybill() {
    local line=${COMP_LINE:0:COMP_POINT} candidate words
    read -ra words <<<"$line"
    [[ $line == *[[:space:]] ]] && words+=("")
    # Bash splits words at : and = and replaces the last part only.
    local kept=${words[${#words[@]}-1]}
    kept=${kept%"$2"}
    COMPREPLY=()
    while IFS=$'\t' read -r candidate _; do
        case $candidate in
            :2 | :6) compopt -o nospace 2>/dev/null ;;
            :*) ;;
            *) COMPREPLY+=("$(printf '%q' "${candidate#"$kept"}")") ;;
        esac
    done < <("${words[0]}" __complete "${words[@]:1}" 2>/dev/null)
}
complete -F _waybill waybill
