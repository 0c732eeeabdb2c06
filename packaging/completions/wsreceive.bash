# bash completion for wsreceive
_wsreceive() {
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} words="${COMP_WORDS[*]:1:COMP_CWORD-1} " options values
	[ "$cur" = = ] && cur=
	[ "$prev" = = ] && prev=${COMP_WORDS[COMP_CWORD-2]}
	case $prev in
	--engine-gzip) values=" auto on off" ;;
	--log-level) values="debug info warn error" ;;
	--log-format) values="text json" ;;
	--output) values="short json raw csv" ;;
	esac
	case $words in
	"cert "*) options="--help --dir --days" ;;
	"passwd "*) options="--help" ;;
	"streams move "*) options="--help --to --index --data-stream --pipeline --engine-auth --engine-aws --engine-ca --engine-fingerprint --engine-cert --engine-key --engine-gzip --config" ;;
	"streams list "*) options="--help --to --index --data-stream --pipeline --engine-auth --engine-aws --engine-ca --engine-fingerprint --engine-cert --engine-key --engine-gzip --config" ;;
	"senders "*) options="--help --to --index --data-stream --pipeline --engine-auth --engine-aws --engine-ca --engine-fingerprint --engine-cert --engine-key --engine-gzip --config --silent-after --late-after --state --json --url --user --password-file --tls-ca" ;;
	"replay "*) options="--help --to --index --data-stream --pipeline --engine-auth --engine-aws --engine-ca --engine-fingerprint --engine-cert --engine-key --engine-gzip --dead-file --log-level" ;;
	"setup "*) options="--help --to --index --data-stream --pipeline --engine-auth --engine-aws --engine-ca --engine-fingerprint --engine-cert --engine-key --engine-gzip --retain --dashboards --print-dashboards --dry-run --log-level" ;;
	"verify "*) options="--help --to --json --config" ;;
	"backup "*) options="--help --to --config" ;;
	"search "*) options="--help --to --lines --since --until --context --follow --output --json --url --user --password-file --tls-ca --config" ;;
	*) options="--help --listen --to --journal --retain --memory --index --data-stream --pipeline --engine-auth --engine-aws --engine-ca --engine-fingerprint --engine-cert --engine-key --engine-gzip --dead-file --dial --dial-token --keys --tokens --client-ca --client-hosts --tls-cert --tls-key --behind-proxy --allow-insecure --receipt-secret --max-streams --require-receipt --page-users --page-hosts --kibana --silent-after --late-after --metrics --log-level --log-format --config" ;;
	esac
	if [ -n "$values" ]; then
		mapfile -t COMPREPLY < <(compgen -W "$values" -- "$cur")
	elif [[ $cur == -* ]]; then
		mapfile -t COMPREPLY < <(compgen -W "$options" -- "$cur")
	elif [ "$COMP_CWORD" = 1 ]; then
		mapfile -t COMPREPLY < <(compgen -W "serve search backup verify setup replay senders streams passwd cert" -- "$cur")
	elif [ "$words" = "streams " ]; then
		mapfile -t COMPREPLY < <(compgen -W "list move" -- "$cur")
	fi
}
complete -o default -F _wsreceive wsreceive
