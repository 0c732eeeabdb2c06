package manual

import (
	"fmt"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

// words gives what can stand after the program's name: its commands.
func words(app *kong.Application) (all []string) {
	for _, c := range app.Children {
		if !c.Hidden {
			all = append(all, c.Name)
		}
	}
	return all
}

// bash: the words up to the cursor name the command, the rest is options. File
// names are completed wherever no option begins.
func bash(app *kong.Application) string {
	var w strings.Builder
	fn := "_" + app.Name
	fmt.Fprintf(&w, "# bash completion for %s\n%s() {\n", app.Name, fn)
	fmt.Fprint(&w, "\tlocal cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} words=\"${COMP_WORDS[*]:1:COMP_CWORD-1} \" options values\n")
	fmt.Fprint(&w, "\t[ \"$cur\" = = ] && cur=\n\t[ \"$prev\" = = ] && prev=${COMP_WORDS[COMP_CWORD-2]}\n\tcase $prev in\n")
	seen := map[string]bool{}
	for _, c := range commands(app) {
		for _, f := range flags(c) {
			if f.Enum != "" && !seen[f.Name] {
				seen[f.Name] = true
				fmt.Fprintf(&w, "\t--%s) values=%q ;;\n", f.Name, strings.Join(f.EnumSlice(), " "))
			}
		}
	}
	fmt.Fprint(&w, "\tesac\n\tcase $words in\n")
	for _, c := range slices.Backward(commands(app)) { // the default command is first, and matches last
		pattern := "*"
		if n := name(app, c); n != "" {
			pattern = fmt.Sprintf("%q*", n+" ")
		}
		fmt.Fprintf(&w, "\t%s) options=%q ;;\n", pattern, optionList(c))
	}
	fmt.Fprint(&w, "\tesac\n\tif [ -n \"$values\" ]; then\n\t\tmapfile -t COMPREPLY < <(compgen -W \"$values\" -- \"$cur\")\n")
	fmt.Fprint(&w, "\telif [[ $cur == -* ]]; then\n\t\tmapfile -t COMPREPLY < <(compgen -W \"$options\" -- \"$cur\")\n")
	fmt.Fprintf(&w, "\telif [ \"$COMP_CWORD\" = 1 ]; then\n\t\tmapfile -t COMPREPLY < <(compgen -W %q -- \"$cur\")\n",
		strings.Join(words(app), " "))
	for _, c := range app.Children {
		if len(c.Children) > 0 {
			var sub []string
			for _, s := range c.Children {
				sub = append(sub, s.Name)
			}
			fmt.Fprintf(&w, "\telif [ \"$words\" = %q ]; then\n\t\tmapfile -t COMPREPLY < <(compgen -W %q -- \"$cur\")\n", c.Name+" ", strings.Join(sub, " "))
		}
	}
	fmt.Fprintf(&w, "\tfi\n}\ncomplete -o default -F %s %s\n", fn, app.Name)
	return w.String()
}

func optionList(c *kong.Node) string {
	list := []string{"--help"}
	for _, f := range flags(c) {
		list = append(list, "--"+f.Name)
	}
	return strings.Join(list, " ")
}

// brief is the first sentence of a help text.
func brief(help string) string {
	help, _, _ = strings.Cut(help, "\n")
	sentence, _, _ := strings.Cut(help, ". ")
	return strings.TrimSuffix(sentence, ".")
}

// zsh: _arguments for each command.
func zsh(app *kong.Application) string {
	var w strings.Builder
	quote := strings.NewReplacer(`'`, `'\''`, `[`, `\[`, `]`, `\]`, `:`, `\:`).Replace
	fmt.Fprintf(&w, "#compdef %s\n# zsh completion for %s\n\nlocal -a commands options\ncommands=(\n", app.Name,
		app.Name)
	for _, c := range app.Children {
		if !c.Hidden {
			fmt.Fprintf(&w, "  '%s:%s'\n", c.Name, quote(brief(c.Help)))
		}
	}
	fmt.Fprint(&w, ")\ncase \"${words[2,CURRENT-1]} \" in\n")
	for _, c := range slices.Backward(commands(app)) {
		pattern := "*"
		if n := name(app, c); n != "" {
			pattern = fmt.Sprintf("%q*", n+" ")
		}
		fmt.Fprintf(&w, "%s) options=(\n", pattern)
		for _, f := range flags(c) {
			value := ""
			switch {
			case f.IsBool():
			case f.Enum != "":
				value = "=:value:(" + strings.Join(f.EnumSlice(), " ") + ")"
			default:
				value = "=:" + strings.ToLower(quote(placeholder(f))) + ":_files"
			}
			name, sep, rest := "--"+f.Name, "", value
			if strings.HasPrefix(value, "=") {
				sep, rest = "=", value[1:]
			}
			fmt.Fprintf(&w, "  '%s%s[%s]%s'\n", name, sep, quote(brief(f.Help)), rest)
		}
		fmt.Fprint(&w, "  ) ;;\n")
	}
	fmt.Fprint(&w, "esac\nif (( CURRENT == 2 )) && [[ $PREFIX != -* ]]; then\n  _describe command commands\nfi\n_arguments $options '*:file:_files'\n")
	return w.String()
}

// fish: a condition for each command.
func fish(app *kong.Application) string {
	var w strings.Builder
	quote := strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace
	fmt.Fprintf(&w, "# fish completion for %s\n", app.Name)
	for _, c := range app.Children {
		if !c.Hidden {
			fmt.Fprintf(&w, "complete -c %s -n __fish_use_subcommand -a %s -d '%s'\n", app.Name, c.Name,
				quote(brief(c.Help)))
		}
	}
	for _, c := range commands(app) {
		when := "__fish_use_subcommand"
		if n := name(app, c); n != "" {
			last := n[strings.LastIndexByte(n, ' ')+1:]
			if last != n {
				first, _, _ := strings.Cut(n, " ")
				fmt.Fprintf(&w, "complete -c %s -n '__fish_seen_subcommand_from %s' -a %s -d '%s'\n", app.Name, first,
					last, quote(brief(c.Help)))
			}
			when = "__fish_seen_subcommand_from " + last
		}
		for _, f := range flags(c) {
			value := " -r"
			switch {
			case f.IsBool():
				value = ""
			case f.Enum != "":
				value = " -x -a '" + strings.Join(f.EnumSlice(), " ") + "'"
			}
			fmt.Fprintf(&w, "complete -c %s -n '%s' -l %s%s -d '%s'\n", app.Name, when, f.Name, value,
				quote(brief(f.Help)))
		}
	}
	return w.String()
}
