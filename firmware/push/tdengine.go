package push

import (
	"net/url"
	"strings"
)

// parseTDengine is for taosAdapter, whose port takes line protocol and creates what is missing.
func parseTDengine(path string, data map[string]any) (target, error) {
	top := read(path, data, "TDEngineClientConfig")
	top.Require("an object with addr and dbName", "TDEngineClientConfig")
	if err := top.err(); err != nil {
		return target{}, err
	}
	f := read(path+".TDEngineClientConfig", object(data, "TDEngineClientConfig"), "addr", "dbName")
	f.Require("the address of taosAdapter, as 127.0.0.1:6041", "addr")
	f.Require("the name of the database", "dbName")
	t := target{opt: &options{}}
	t.timeout = defaultTimeout
	query := url.Values{"db": {f.text("dbName")}, "precision": {"ns"}}
	if text := f.text("addr"); text != "" {
		if !strings.Contains(text, "://") {
			text = "http://" + text
		}
		base, rest := address(f.Fields, "addr", text, 0, map[string]int{"http": 6041, "https": 6041})
		if rest != "/" && base != "" {
			f.Fail("addr", text, "has a path", "HOST:PORT, http://HOST:PORT, https://HOST:PORT")
		}
		t.address, t.path = base, "/influxdb/v1/write?"+query.Encode()
	}
	return t, f.err()
}

func dialTDengine(e endpoint, c credential) (sender, error) {
	w, err := newWeb(e, c, "text/plain; charset=utf-8")
	if err != nil {
		return nil, err
	}
	w.authorize(c, "Taosd") // the documented scheme of its own tokens; a name and a password are HTTP's Basic
	return influxSender{w}, nil
}
