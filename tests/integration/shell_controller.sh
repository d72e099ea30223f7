#!/bin/bash
# A complete session controller. It reads what the softphone does, a line for each change: ringing, dialing, connected,
# held, disconnected, muted or unmuted. $SET_MUTE is a command that mutes when "true" follows, unmutes when "false" does.
P=${STATION:-$(hostname -s)} P=mutebridge/v1/${P,,} C=$P/controller/shell call=disconnected call_id=none muted= last=
broker=(-h "${HOST:-localhost}" -p "${PORT:-1883}" -q 1) SET_MUTE=${SET_MUTE:-pactl set-source-mute @DEFAULT_SOURCE@}
say() { mosquitto_pub "${broker[@]}" -t "$C/$1" -m "$2" "${@:3}"; }
say_mic() { [[ ! $muted ]] || say mic "{\"muted\":$muted,\"call_id\":\"$call_id\"${1:+,\"request_id\":\"$1\"}}" -r; }
say_all() { say_mic; say call "{\"state\":\"$call\",\"call_id\":\"$call_id\"}" -r; say availability online -r; }
refuse() { say result "{\"request_id\":\"$id\",\"ok\":false,\"error\":\"$1\"}"; }
agree() { say_mic "$1"; say result "{\"request_id\":\"$id\",\"ok\":true}"; }
get() { [[ $line =~ \"$1\":\ ?\"?([-.:_0-9A-Za-z]+) ]] && got=${BASH_REMATCH[1]} || got=; }
obey() {
  get request_id; id=$got; get muted; wish=$got; get expires_at; expires=${got%%.*}; get call_id
  if [[ $id == "$last" ]]; then agree # once more: the same answer
  elif [[ ! $expires =~ ^[0-9]{13}$ ]] || (($(date +%s%3N) >= expires)); then refuse expired
  elif [[ $got != "$call_id" ]]; then refuse stale
  elif [[ $call != connected ]]; then refuse not_connected
  elif [[ $wish =~ ^(true|false)$ ]] && $SET_MUTE "$wish" </dev/null; then muted=$wish last=$id; agree "$id"
  else refuse failed; fi
}
trap 'say availability offline -r' EXIT; say_all
{ mosquitto_sub "${broker[@]}" -v -t "$C/command" -t "$C/availability" -t "$P/bridge/availability" \
    --will-topic "$C/availability" --will-payload offline --will-retain & cat; kill $!; } | while read -r line; do case $line in
  "$C/command {"*) obey ;;
  "$C/availability offline" | "$P/bridge/availability online") say_all ;;
  muted | unmuted) [[ $line == muted ]] && muted=true || muted=false; say_mic ;;
  ringing | dialing | connected | held | disconnected)
    [[ $call != disconnected ]] || { call_id=$(date +%s%N) muted=; }; call=$line; say_all ;;
esac; done
