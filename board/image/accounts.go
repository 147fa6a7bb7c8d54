package image

import (
	"bufio"
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// accounts are users and groups of a root, as Debian's base-passwd and the sysusers.d(5) files of its packages want them.
type accounts struct {
	users  []user
	groups []group
}

type user struct {
	name     string
	uid, gid int
	gecos    string
	home     string
	shell    string
}

type group struct {
	name    string
	gid     int
	members []string
}

// Ids that sysusers.d files leave open are given from here upwards in the order of names, so that they are the same in each build; a gateway's
// data partition does not hold files of these users.
const (
	firstSystemID = 100
	lastSystemID  = 899
)

// readAccounts reads base-passwd's masters and all sysusers.d files of a tree.
func readAccounts(t *Tree) (*accounts, error) {
	a := &accounts{}
	masters := [2][]byte{}
	for i, f := range []string{"usr/share/base-passwd/passwd.master", "usr/share/base-passwd/group.master"} {
		b, ok := t.Read(f)
		if !ok {
			return nil, fmt.Errorf("/%s is missing: it is in package base-passwd", f)
		}
		masters[i] = b
	}
	for s := bufio.NewScanner(bytes.NewReader(masters[0])); s.Scan(); {
		f := strings.Split(s.Text(), ":")
		if len(f) != 7 {
			return nil, fmt.Errorf("passwd.master has the line %q", s.Text())
		}
		uid, err1 := strconv.Atoi(f[2])
		gid, err2 := strconv.Atoi(f[3])
		if err1 != nil || err2 != nil {
			return nil, fmt.Errorf("passwd.master has the line %q", s.Text())
		}
		a.users = append(a.users, user{f[0], uid, gid, f[4], f[5], f[6]})
	}
	for s := bufio.NewScanner(bytes.NewReader(masters[1])); s.Scan(); {
		f := strings.Split(s.Text(), ":")
		gid, err := strconv.Atoi(f[min(2, len(f)-1)])
		if len(f) != 4 || err != nil {
			return nil, fmt.Errorf("group.master has the line %q", s.Text())
		}
		a.groups = append(a.groups, group{name: f[0], gid: gid})
	}
	for _, p := range t.Paths() {
		if strings.HasPrefix(p, "usr/lib/sysusers.d/") && strings.HasSuffix(p, ".conf") {
			b, _ := t.Read(p)
			if err := a.sysusers(b); err != nil {
				return nil, fmt.Errorf("/%s: %w", p, err)
			}
		}
	}
	return a, nil
}

// sysusers adds what one sysusers.d file asks for. Lines are TYPE NAME ID GECOS HOME SHELL; - is what is left open.
func (a *accounts) sysusers(text []byte) error {
	for s := bufio.NewScanner(bytes.NewReader(text)); s.Scan(); {
		line := strings.TrimSpace(s.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		f := words(line)
		for len(f) < 6 {
			f = append(f, "-")
		}
		switch f[0] {
		case "u", "u!":
			if err := a.addUser(f); err != nil {
				return err
			}
		case "g":
			a.addGroup(f[1], f[2])
		case "m":
			a.addGroup(f[2], "-")
			i := slices.IndexFunc(a.groups, func(g group) bool { return g.name == f[2] })
			if !slices.Contains(a.groups[i].members, f[1]) {
				a.groups[i].members = append(a.groups[i].members, f[1])
			}
		case "r":
		default:
			return fmt.Errorf("the line %q is of no known type", line)
		}
	}
	return nil
}

// words splits a line at spaces, but not in double quotes.
func words(line string) []string {
	var out []string
	for line = strings.TrimSpace(line); line != ""; line = strings.TrimSpace(line) {
		if rest, quoted := strings.CutPrefix(line, `"`); quoted {
			word, after, _ := strings.Cut(rest, `"`)
			out, line = append(out, word), after
			continue
		}
		i := strings.IndexAny(line, " \t")
		if i < 0 {
			i = len(line)
		}
		out, line = append(out, line[:i]), line[i:]
	}
	return out
}

func (a *accounts) addUser(f []string) error {
	if slices.ContainsFunc(a.users, func(u user) bool { return u.name == f[1] }) {
		return nil
	}
	id, groupName, _ := strings.Cut(f[2], ":")
	gid := 0
	if groupName != "" {
		i := slices.IndexFunc(a.groups, func(g group) bool { return g.name == groupName || strconv.Itoa(g.gid) == groupName })
		if i < 0 {
			return fmt.Errorf("user %s wants the group %s, which is not there", f[1], groupName)
		}
		gid = a.groups[i].gid
	} else {
		gid = a.addGroup(f[1], id)
	}
	uid, err := strconv.Atoi(id)
	if err != nil {
		uid = gid
	}
	u := user{name: f[1], uid: uid, gid: gid, gecos: strings.Trim(f[3], "-"), home: "/", shell: "/usr/sbin/nologin"}
	if f[4] != "-" {
		u.home = f[4]
	}
	if f[5] != "-" {
		u.shell = f[5]
	}
	a.users = append(a.users, u)
	return nil
}

// addGroup adds a group if it is not there, and returns its id.
func (a *accounts) addGroup(name, id string) int {
	if i := slices.IndexFunc(a.groups, func(g group) bool { return g.name == name }); i >= 0 {
		return a.groups[i].gid
	}
	gid, err := strconv.Atoi(id)
	for next := firstSystemID; err != nil && next <= lastSystemID; next++ {
		if !a.used(next) {
			gid, err = next, nil
		}
	}
	a.groups = append(a.groups, group{name: name, gid: gid})
	return gid
}

func (a *accounts) used(id int) bool {
	return slices.ContainsFunc(a.groups, func(g group) bool { return g.gid == id }) || slices.ContainsFunc(a.users, func(u user) bool { return u.uid == id })
}

// write writes the files of /etc. Nobody has a password, and nobody can log in with one.
func (a *accounts) write(t *Tree) {
	var passwd, shadow, groups, gshadow bytes.Buffer
	for _, u := range a.users {
		fmt.Fprintf(&passwd, "%s:x:%d:%d:%s:%s:%s\n", u.name, u.uid, u.gid, u.gecos, u.home, u.shell)
		fmt.Fprintf(&shadow, "%s:!*:::::::\n", u.name)
	}
	for _, g := range a.groups {
		fmt.Fprintf(&groups, "%s:x:%d:%s\n", g.name, g.gid, strings.Join(g.members, ","))
		fmt.Fprintf(&gshadow, "%s:!::%s\n", g.name, strings.Join(g.members, ","))
	}
	t.File("etc/passwd", 0o644, passwd.Bytes())
	t.File("etc/group", 0o644, groups.Bytes())
	t.File("etc/shadow", 0o600, shadow.Bytes())
	t.File("etc/gshadow", 0o600, gshadow.Bytes())
}
