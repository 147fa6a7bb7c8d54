package pointlist

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/skerry/skerry/mappers/device"
	"github.com/skerry/skerry/mappers/modbus"
)

// compile is what the gateway will say of a point.
func compile(cfg device.PointConfig) error {
	_, err := modbus.New().Compile(cfg)
	return err
}

// shown is a point in one line.
func shown(p Point) string {
	s := fmt.Sprintf("%s %s %v", p.Name, p.Type, p.Visitor)
	if p.Unit != "" {
		s += " in " + p.Unit
	}
	if p.Writable {
		s += " rw"
	}
	if p.Station >= 0 {
		s += fmt.Sprintf(" of %d", p.Station)
	}
	if p.Cycle > 0 {
		s += fmt.Sprintf(" every %d", p.Cycle)
	}
	return s
}

// TestLists reads lists of the kinds that manuals have.
func TestLists(t *testing.T) {
	for name, c := range map[string]struct {
		text    string
		o       Options
		want    []string
		refused []string // parts of the messages
	}{
		"Modicon addresses, semicolons, decimal commas, German, Latin-1": {
			text: "Z\xe4hlerliste Typ X;;;;\r\n;;;;\r\nBezeichnung;Adresse;Datentyp;Skalierung;Einheit;Zugriff\r\nMesswerte;;;;;\r\nSpannung L1;40001;UINT16;0,1;V;R\r\n\"Strom; L1\";40002;S32;0,001;A;R\r\nTemperatur;30010;REAL;1;\xb0C;lesen\r\nSollwert;40100;INT;1/10;\xb0C;R/W\r\n",
			want: []string{"Spannung-L1 FLOAT map[offset:0 register:holding scale:0.1 type:uint16] in V", "Strom-L1 DOUBLE map[offset:1 register:holding scale:0.001 type:int32] in A",
				"Temperatur FLOAT map[offset:9 register:input type:float32] in °C", "Sollwert FLOAT map[offset:99 register:holding scale:0.1 type:int16] in °C rw"},
		},
		"function codes, hexadecimal, lengths, commas": {
			text: "Tag Name,Function Code,Register (hex),Length,Data Type,Access\nEnergy,03,0x0010,2,unsigned,RO\nSerial,3,0x20,8,ASCII,RO\nAlarm,FC02,5,1,bit,R\nRelay,1,0x00,1,bool,RW\nPump,03/06/16,100,1,Unsigned16,RW\n",
			want: []string{"Energy INT map[offset:16 register:holding type:uint32]", "Serial STRING map[limit:8 offset:32 register:holding type:string]", "Alarm BOOLEAN map[offset:5 register:discrete]",
				"Relay BOOLEAN map[offset:0 register:coil] rw", "Pump INT map[offset:100 register:holding type:uint16] rw"},
		},
		"raw addresses that look like Modicon's": {
			text: "name\taddress\ttype\tregister type\nPower\t30775\tS32\tholding\nTotal\t30529\tU32\tholding\n",
			want: []string{"Power INT map[offset:30775 register:holding type:int32]", "Total INT map[offset:30529 register:holding type:uint32]"},
		},
		"ranges, bits, tables in addresses, BOM": {
			text: "\ufeffParameter|Register|Format|R/W\nFlow|40011-40012|Float|R\nFault|40020.3|BOOL|R\nFine|4x0005|int16|R\n",
			want: []string{"Flow FLOAT map[offset:10 register:holding type:float32]", "Fault BOOLEAN map[bit:3 offset:19 register:holding type:bool]", "Fine INT map[offset:4 register:holding type:int16]"},
		},
		"one-based, table and order by option": {
			text: "Signal,Addr,Type,Unit ID,Poll Interval\na,1,uint32,3,500\nb,3,float,4,\n", o: Options{Table: "input", Addressing: "one", Order: "cdab"},
			want: []string{"a INT map[offset:0 register:input type:uint32 wordOrder:CDAB] of 3 every 500", "b FLOAT map[offset:2 register:input type:float32 wordOrder:CDAB] of 4"},
		},
		"columns by name and number": {
			text: "Was,Wo,Wie\nx,40001,int16\n", o: Options{Columns: map[string]string{"name": "was", "address": "2", "type": "Wie"}},
			want: []string{"x INT map[offset:0 register:holding type:int16]"},
		},
		"what is wrong is said line by line": {
			text: "name,address,type,scale,access\nok,40001,int16,,R\nok,40002,int16,,R\n,40003,int16,,R\nbad address,abc,int16,,R\nbad type,40004,quaternion,,R\nbad scale,40005,int16,\"1,234\",R\nbad access,40006,int16,,maybe\ncomment only,,,,\ntwo,,int16,,\nstring,40007,string,,R\nscaled bit,00001,bool,10,R\n",
			want: []string{"ok INT map[offset:0 register:holding type:int16]"},
			refused: []string{"line 3 (ok): line 2 has a point of the same name", "line 4: the point has no name", "line 5 (bad address): address \"abc\"", "line 6 (bad type): type \"quaternion\"",
				"line 7 (bad scale): scale \"1,234\"", "line 8 (bad access): access \"maybe\"", "line 10 (two): the point has no address", "line 11 (string): a string needs its length", "line 12 (scaled bit): a bool cannot be scaled"},
		},
		"one address of many is wrong": {
			text:    "name,address,type\na,40001,int16\nb,40002,int16\nc,99999,int16\nd,30003,int16\n",
			want:    []string{"a INT map[offset:0 register:holding type:int16]", "b INT map[offset:1 register:holding type:int16]", "d INT map[offset:2 register:input type:int16]"},
			refused: []string{"line 4 (c): address 99999 is none of 5 or 6 digits whose first is 0, 1, 3 or 4"},
		},
		"addresses that say no table": {
			text:    "name,address,type\na,40001,int16\nb,7,int16\nc,9,int16\n",
			refused: []string{"line 2 (a): address 40001 does not say in which table it is", "line 3 (b): address 7 does not say", "line 4 (c): address 9"},
		},
		"Neuron's table": {
			text: "group,name,address,attribute,type,description,decimal,precision,bias\ngrp,t1,1!400001,Read,FLOAT,temperature,0.1,,\ngrp,t2,1!400010.4,Read,BIT,,,,\ngrp,t3,2!300004#BL,Read Subscribe,UINT32,,,,\ngrp,t4,1!400020.10H,\"Read,Write\",STRING,,,,\ngrp,t5,1!00001,Read Write,BIT,,,,\n",
			want: []string{"t1 FLOAT map[offset:0 register:holding scale:0.1 type:float32] of 1", "t2 BOOLEAN map[bit:4 offset:9 register:holding type:bool] of 1", "t3 INT map[offset:3 register:input type:uint32 wordOrder:CDAB] of 2",
				"t4 STRING map[limit:5 offset:19 register:holding type:string] rw of 1", "t5 BOOLEAN map[offset:0 register:coil] rw of 1"},
		},
		"Neuron's tags": {
			text: `{"tags": [{"name": "a", "address": "1!400001", "attribute": 3, "type": 4, "precision": 0, "decimal": 0, "description": "x"},
 {"name": "b", "address": "1!40002#B", "attribute": 1, "type": 3, "decimal": 0.01},
 {"name": "c", "address": "1!400003.7X", "attribute": 1, "type": 3}]}`,
			want:    []string{"a INT map[offset:0 register:holding type:uint16] rw of 1", "b FLOAT map[offset:1 register:holding scale:0.01 type:int16 wordOrder:BA] of 1"},
			refused: []string{"line 3 (c): address \"1!400003.7X\""},
		},
		"Neuron's drivers": {
			text: `{"nodes": [{"name": "m", "plugin": "Modbus TCP", "params": {"host": "10.0.0.7", "port": 502}, "groups": [{"group": "g", "interval": 2000, "tags": [{"name": "a", "address": "1!400001", "attribute": 1, "type": 9}]}]}]}`,
			want: []string{"a FLOAT map[offset:0 register:holding type:float32] of 1 every 2000"},
		},
		"Neuron's OPC UA": {
			text: `{"nodes": [{"name": "u", "plugin": "OPC UA", "groups": [{"group": "g", "interval": 2000, "tags": [{"name": "a", "address": "2!Pump.Speed", "attribute": 3, "type": 10}, {"name": "b", "address": "0!2258", "attribute": 1, "type": 13}]}]}]}`,
			want: []string{"a DOUBLE map[nodeID:ns=2;s=Pump.Speed] rw", "b STRING map[nodeID:ns=0;i=2258]"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			l, err := Read([]byte(c.text), c.o)
			if err != nil {
				t.Fatal(err)
			}
			if l.Protocol == "modbus" {
				l.Check(compile)
			}
			var got, refused []string
			for _, p := range l.Points {
				got = append(got, shown(p))
			}
			for _, r := range l.Refused {
				refused = append(refused, r.String())
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("points\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(c.want, "\n"))
			}
			if len(refused) != len(c.refused) {
				t.Fatalf("refused\n%s\nwant %d", strings.Join(refused, "\n"), len(c.refused))
			}
			for i, want := range c.refused {
				if !strings.HasPrefix(refused[i], want) {
					t.Errorf("refused %q, want %q", refused[i], want)
				}
			}
		})
	}
}

// TestNoLists are refused as a whole, with what to do.
func TestNoLists(t *testing.T) {
	for name, c := range map[string]struct {
		data, want string
		o          Options
	}{
		"a spreadsheet":        {"PK\x03\x04xxxx", "save it as CSV", Options{}},
		"an old spreadsheet":   {"\xD0\xCF\x11\xE0", "save it as CSV", Options{}},
		"binary":               {"a\x00b", "not a text file", Options{}},
		"no header":            {"1,2,3\n4,5,6\n", "--map", Options{}},
		"nothing":              {"", "--map", Options{}},
		"broken JSON":          {"{\"tags\": [", "not JSON", Options{}},
		"JSON without tags":    {"{\"a\": 1}", "no tags", Options{}},
		"nested":               {strings.Repeat("[", 100), "nested", Options{}},
		"a column that is not": {"name,address\na,1\n", "--map", Options{Columns: map[string]string{"type": "Typ"}}},
		"a table that is not":  {"name,address\na,1\n", "allowed are holding", Options{Table: "both"}},
		"a type that is not":   {"name,address\na,1\n", "int16", Options{Type: "quaternion"}},
		"too large":            {strings.Repeat("x", MaxSize+1), "larger", Options{}},
		"too many points":      {"name,address,type\n" + strings.Repeat("a,40001,int16\n", maxPoints+1), "split", Options{}},
	} {
		if _, err := Read([]byte(c.data), c.o); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

// TestManifests are what kubectl takes: one pair of objects for each station.
func TestManifests(t *testing.T) {
	l, err := Read([]byte("name,address,type,slave,unit\na,40001,int16,1,\"m³/h: \"\"x\"\"\"\nb,40002,float,2,\n"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	text, err := Manifests(l, Names{Model: "meter", Device: "meter-x", Node: "gw-1", Protocol: map[string]any{"ip": "10.0.0.7"}})
	if err != nil {
		t.Fatal(err)
	}
	var docs []map[string]any
	for dec := yaml.NewDecoder(strings.NewReader(string(text))); ; {
		var d map[string]any
		if err := dec.Decode(&d); err != nil {
			break
		}
		docs = append(docs, d)
	}
	if len(docs) != 4 {
		t.Fatalf("%d documents in\n%s", len(docs), text)
	}
	spec := docs[3]["spec"].(map[string]any)
	protocol := spec["protocol"].(map[string]any)["configData"].(map[string]any)
	if docs[3]["kind"] != "Device" || docs[3]["metadata"].(map[string]any)["name"] != "meter-x-2" || protocol["slaveID"] != 2 || protocol["ip"] != "10.0.0.7" || spec["nodeName"] != "gw-1" {
		t.Errorf("%v", docs[3])
	}
	if unit := docs[0]["spec"].(map[string]any)["properties"].([]any)[0].(map[string]any)["unit"]; unit != `m³/h: "x"` {
		t.Errorf("unit %q", unit)
	}
	if _, err := Manifests(l, Names{Model: "Meter 1"}); err == nil || !strings.Contains(err.Error(), "lower-case") {
		t.Error(err)
	}
}

// FuzzRead: whatever a file holds, reading it ends, takes a bounded number of points, and all of them can be written as manifests.
func FuzzRead(f *testing.F) {
	f.Add([]byte("name;address;type;scale\na;40001;int16;0,1\n"))
	f.Add([]byte("Tag,FC,Register,Length\na,3,0x10-0x11,2\n"))
	f.Add([]byte("{\"tags\":[{\"name\":\"a\",\"address\":\"1!400001.10H\",\"type\":13,\"attribute\":3}]}"))
	f.Add([]byte("\xff\xfen\x00a\x00m\x00e\x00,\x00a\x00d\x00d\x00r\x00\n\x00a\x00,\x001\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		l, err := Read(data, Options{Table: "holding", Type: "int16"})
		if err != nil {
			return
		}
		if len(l.Points) > maxPoints {
			t.Fatal("too many points")
		}
		if l.Protocol == "modbus" {
			points := len(l.Points)
			if l.Check(compile); len(l.Points) != points {
				t.Errorf("the driver refuses what was read: %v", l.Refused)
			}
		}
		if len(l.Points) == 0 {
			return
		}
		text, err := Manifests(l, Names{Model: "m"})
		if err != nil {
			t.Fatal(err)
		}
		var doc any
		if err := yaml.Unmarshal(text, &doc); err != nil {
			t.Fatalf("%v in\n%s", err, text)
		}
	})
}
