package pods

import "testing"

// TestGroup: where statistics look for a pod's cgroup, and for that of all.
func TestGroup(t *testing.T) {
	for _, c := range []struct {
		parent    string
		systemd   bool
		uid, want string
	}{
		{"/skerry", false, "u-1", "/skerry/podu-1"}, {"/skerry", false, "", "/skerry"}, {"/a/b", false, "", "/a/b"}, {"/", false, "", "/"},
		{"/skerry", true, "u-1", "/skerry.slice/skerry-podu_1.slice"}, {"/skerry", true, "", "/skerry.slice"},
		{"/skerry", false, "../../etc", ""},
	} {
		m := &Manager{o: Options{CgroupRoot: "/cg", CgroupParent: c.parent}}
		m.rt.systemd = c.systemd
		if _, got := m.Group(c.uid); got != c.want {
			t.Errorf("%+v: %q", c, got)
		}
	}
}
