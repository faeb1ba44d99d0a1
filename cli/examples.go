package cli

import (
	"strings"

	"github.com/spf13/cobra"
)

// examples are what the help of a verb shows under our own name; etcdctl's help has none for them.
var examples = map[string]string{
	"get": `  quorate get greeting
  quorate get --prefix /app/ --keys-only
  quorate get --prefix /app/ --limit 10 --sort-by modify --order descend
  quorate get greeting --rev 5 -w json`,
	"put": `  quorate put greeting hello
  quorate put config < config.yaml
  quorate put session x --lease 694d9f1b0c4d2a01`,
	"del": `  quorate del greeting
  quorate del --prefix /app/ --prev-kv`,
	"txn": `  quorate txn <<'END'
  version("lock") = "0"

  put lock mine

  get lock

  END`,
	"watch": `  quorate watch --prefix /app/
  quorate watch greeting --rev 1 --prev-kv
  quorate watch --prefix /app/ -- sh -c 'echo "$ETCD_WATCH_EVENT_TYPE $ETCD_WATCH_KEY"'`,
	"compaction": `  quorate compaction 1000
  quorate compaction --physical 1000`,
	"lease grant":      "  quorate lease grant 60",
	"lease keep-alive": "  quorate lease keep-alive 694d9f1b0c4d2a01",
	"lease timetolive": "  quorate lease timetolive --keys 694d9f1b0c4d2a01",
	"lock": `  quorate lock backup -- tar czf /backup/app.tgz /app
  quorate lock backup`,
	"elect": `  quorate elect scheduler "$(hostname)"
  quorate elect -l scheduler`,
	"member add":    "  quorate member add m4 --peer-urls http://10.0.0.4:2380 --learner",
	"member update": "  quorate member update 8e9e05c52164694d --peer-urls http://10.0.0.5:2380",
	"endpoint health": `  quorate endpoint health --cluster
  quorate endpoint health --endpoints 10.0.0.1:2379,10.0.0.2:2379 -w json`,
	"endpoint status": "  quorate endpoint status --cluster -w table",
	"endpoint hashkv": "  quorate endpoint hashkv --cluster --rev 1000",
	"move-leader":     "  quorate move-leader 8e9e05c52164694d --endpoints 10.0.0.1:2379,10.0.0.2:2379",
	"make-mirror":     "  quorate make-mirror --prefix /app/ --dest-prefix /copy/ 10.1.0.1:2379",
	"user add": `  quorate user add alice
  quorate user add alice --new-user-password "$PASSWORD"`,
	"role grant-permission": `  quorate role grant-permission app readwrite --prefix /app/
  quorate role grant-permission app read /config`,
	"auth enable": "  quorate user add root && quorate user grant-role root root && quorate auth enable",
	"check perf":  "  quorate check perf --load m",
}

// exemplify gives the help of root's verbs their examples.
func exemplify(root *cobra.Command) {
	for _, c := range root.Commands() {
		path := strings.TrimPrefix(c.CommandPath(), c.Root().Name()+" ")
		if text, ok := examples[path]; ok && c.Example == "" {
			c.Example = text
		}
		exemplify(c)
	}
}
