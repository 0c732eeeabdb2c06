# bash completion for wsrelay
_wsrelay() {
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} words="${COMP_WORDS[*]:1:COMP_CWORD-1} " options values
	[ "$cur" = = ] && cur=
	[ "$prev" = = ] && prev=${COMP_WORDS[COMP_CWORD-2]}
	case $prev in
	--mode) values="native plain" ;;
	--plain-ack) values="ping receipt none" ;;
	--queue-full) values="wait drop-oldest" ;;
	--compress) values="auto none zstd s2" ;;
	--keeper) values="auto off" ;;
	--log-level) values="debug info warn error" ;;
	--log-format) values="text json" ;;
	esac
	case $words in
	"queue purge "*) options="--help --yes" ;;
	"queue export "*) options="--help --uids" ;;
	"queue dump "*) options="--help" ;;
	"queue verify "*) options="--help" ;;
	"keygen "*) options="--help --name" ;;
	"check "*) options="--help --key-file --token-file --tls-ca --tls-pin --tls-cert --tls-key --header --proxy --header-file --proxy-file --mode --plain-ack --plain-uid --plain-receipt --plain-receipt-if --plain-open --plain-heartbeat --plain-subprotocol --config --options-fd" ;;
	"upgrade "*) options="--help --instance --queue-dir" ;;
	"status "*) options="--help --instance --queue-dir --json --watch" ;;
	*) options="--help --key-file --token-file --tls-ca --tls-pin --tls-cert --tls-key --header --proxy --header-file --proxy-file --mode --plain-ack --plain-uid --plain-receipt --plain-receipt-if --plain-open --plain-heartbeat --plain-subprotocol --listen --allow-insecure --metrics --metrics-file --instance --queue-dir --queue-limit --queue-full --queue-max-age --sync --compress --idle-close --ping --drain --drain-rate --confirm --keeper --unread-dir --exit-ended --log-file --log-level --log-format --config --options-fd" ;;
	esac
	if [ -n "$values" ]; then
		mapfile -t COMPREPLY < <(compgen -W "$values" -- "$cur")
	elif [[ $cur == -* ]]; then
		mapfile -t COMPREPLY < <(compgen -W "$options" -- "$cur")
	elif [ "$COMP_CWORD" = 1 ]; then
		mapfile -t COMPREPLY < <(compgen -W "run status upgrade check keygen queue" -- "$cur")
	elif [ "$words" = "queue " ]; then
		mapfile -t COMPREPLY < <(compgen -W "verify dump export purge" -- "$cur")
	fi
}
complete -o default -F _wsrelay wsrelay
