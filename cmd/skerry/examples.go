package main

import (
	"strings"

	"github.com/spf13/cobra"
)

// examples has an example of each command, by its path without the program's name. Lines begin with
// the program, so that they can be copied; a test parses each with the flags of its command.
// Commands can bring their own in place of one here.
var examples = map[string]string{
	"up":         "skerry up --gateway 8480",
	"status":     "skerry status",
	"share":      "skerry share ~/photos",
	"get":        "skerry get blobaehosepd3e5nqvmw… -o photos",
	"doctor":     "skerry doctor --network",
	"version":    "skerry version",
	"keyring":    "skerry keyring --socket ~/keyring.sock",
	"help":       "skerry help blob add",
	"completion": "skerry completion bash --help",
	"completion bash": "source <(skerry completion bash)\n" +
		"skerry completion bash >/etc/bash_completion.d/skerry",
	"completion zsh":        "source <(skerry completion zsh)",
	"completion fish":       "skerry completion fish | source",
	"completion powershell": "skerry completion powershell | Out-String | Invoke-Expression",

	"blob add":    "skerry blob add ~/photos --pin photos",
	"blob cat":    "skerry blob cat ea8f163d --offset 1MiB --length 64KiB",
	"blob ls":     "skerry blob ls",
	"blob stat":   "skerry blob stat ea8f163d",
	"blob fetch":  "skerry blob fetch blobaehosepd3e5nqvmw… --range 0-1MiB",
	"blob pin":    "skerry blob pin ea8f163d --name photos",
	"blob unpin":  "skerry blob unpin photos",
	"blob pins":   "skerry blob pins",
	"blob rm":     "skerry blob rm ea8f163d",
	"blob gc":     "skerry blob gc --dry-run",
	"blob verify": "skerry blob verify --repair",
	"blob export": "skerry blob export ea8f163d ~/photos-copy",

	"ticket inspect": "skerry ticket inspect blobaehosepd3e5nqvmw…",
	"store repair":   "skerry store repair",

	"project new":       "skerry project new film --description 'Our film'",
	"project ls":        "skerry project ls",
	"project show":      "skerry project show film",
	"project history":   "skerry project history film poster",
	"project asset add": "skerry project asset add film poster.png --sign",
	"project ref add":   "skerry project ref add film poster photo --type derived-from",

	"replica new":      "skerry replica new notes",
	"replica ls":       "skerry replica ls",
	"replica join":     "skerry replica join docaebqcaaaaaaaaaaaaa… --name notes",
	"replica leave":    "skerry replica leave notes",
	"replica delete":   "skerry replica delete notes",
	"replica rename":   "skerry replica rename notes diary",
	"replica rotate":   "skerry replica rotate letters",
	"replica share":    "skerry replica share notes --mode write --prefix guests/",
	"replica invites":  "skerry replica invites notes",
	"replica uninvite": "skerry replica uninvite q7xk…",
	"replica info":     "skerry replica info notes",
	"replica set":      "skerry replica set notes photo -f photo.jpg",
	"replica get":      "skerry replica get notes photo >photo.jpg",
	"replica del":      "skerry replica del notes photo",
	"replica list":     "skerry replica list notes --prefix 2026/ --since 90m",
	"replica import":   "skerry replica import notes entries.jsonl",
	"replica export":   "skerry replica export notes ~/notes",
	"replica watch":    "skerry replica watch notes",
	"replica sync":     "skerry replica sync notes",
	"replica verify":   "skerry replica verify notes",
	"replica policy":   "skerry replica policy notes --prefix 2026/ --max-size 10MiB",
	"replica grant":    "skerry replica grant notes k3v7… --prefix guests/ --until 7d",
	"replica grants":   "skerry replica grants notes",
	"replica revoke":   "skerry replica revoke notes k3v7… --from 2026-01-31",

	"conflicts ls":   "skerry conflicts ls",
	"conflicts show": "skerry conflicts show notes todo.txt",

	"author new":     "skerry author new",
	"author ls":      "skerry author ls",
	"author default": "skerry author default k3v7…",
	"author export":  "skerry author export >author.key",
	"author import":  "skerry author import author.key",

	"identity new":    "skerry identity new --words",
	"identity ls":     "skerry identity ls",
	"identity import": "skerry identity import --mnemonic-file words",
	"identity export": "skerry identity export --form ethereum >wallet.json",
	"identity rm":     "skerry identity rm 4jGk… --yes",

	"vault init":     "skerry vault init --peer /ip4/192.0.2.1/tcp/4001/p2p/12D3KooW…",
	"vault ls":       "skerry vault ls",
	"vault add":      "skerry vault add notes",
	"vault rm":       "skerry vault rm notes",
	"vault join":     "skerry vault join --all",
	"vault open":     "skerry vault open --app films.example --reason 'to list films'",
	"vault requests": "skerry vault requests",
	"vault approve":  "skerry vault approve 4711",
	"vault deny":     "skerry vault deny 4711",
	"vault vaults":   "skerry vault vaults",

	"seed serve":      "skerry seed serve --relay --dht server --quota 10GiB",
	"seed register":   "skerry seed register notes --at /ip4/192.0.2.1/tcp/4001/p2p/12D3KooW…",
	"seed unregister": "skerry seed unregister notes --at /ip4/192.0.2.1/tcp/4001/p2p/12D3KooW…",
	"seed status":     "skerry seed status --at /ip4/192.0.2.1/tcp/4001/p2p/12D3KooW…",
	"seed ready":      "skerry seed ready --http 127.0.0.1:8490",

	"collections serve": "skerry collections serve --config collections.json --prefix /v1",
	"collections primary": "S3_ENDPOINT=https://s3.example S3_BUCKET=documents \\\n" +
		"  skerry collections primary --config collections.json",
	"collections replica": "skerry collections replica --primary https://sync.example/v1",
	"collections openapi": "skerry collections openapi collections.json >openapi.json",
	"collections nginx": "skerry collections nginx --config collections.json \\\n" +
		"  --upstream 127.0.0.1:8500 >nginx.conf",
	"collections migrate": "skerry collections migrate --config collections.json --dry-run",
	"collections default": "skerry collections default >collections.json",
	"collections check":   "skerry collections check collections.json",

	"bench add":       "skerry bench add --mib 4096 --in /mnt/disk",
	"bench transfer":  "skerry bench transfer --mib 256 --files 1000",
	"bench far":       "skerry bench far",
	"bench edit":      "skerry bench edit",
	"bench sealed":    "skerry bench sealed",
	"bench vault":     "skerry bench vault",
	"bench reconcile": "skerry bench reconcile",
	"bench entries":   "skerry bench entries",
	"bench live":      "skerry bench live",
	"bench idle":      "skerry bench idle",
	"bench seed":      "skerry bench seed",
}

// addExample gives a command its example, unless it brings one.
func addExample(cmd *cobra.Command) {
	if text, ok := examples[ownPath(cmd)]; ok && cmd.Example == "" {
		cmd.Example = "  " + strings.ReplaceAll(text, "\n", "\n  ")
	}
}
