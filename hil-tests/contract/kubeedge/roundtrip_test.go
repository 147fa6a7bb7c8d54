package kubeedge

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	theirs "github.com/kubeedge/api/apis/devices/v1beta1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	ours "github.com/skerry/skerry/relay/api/devices/v1beta1"
)

// pairs are their kinds and ours.
var pairs = []struct {
	kind         string
	theirs, ours func() any
}{
	{"DeviceModel", func() any { return new(theirs.DeviceModel) }, func() any { return new(ours.DeviceModel) }},
	{"Device", func() any { return new(theirs.Device) }, func() any { return new(ours.Device) }},
	{"DeviceStatus", func() any { return new(theirs.DeviceStatus) }, func() any { return new(ours.DeviceStatus) }},
}

// freeForm is what every field without a schema of its own is filled with: all JSON types, nested, and an integer that
// float64 holds exactly, since KubeEdge's own types read numbers as float64.
func freeForm() map[string]any {
	return map[string]any{
		"register": "HoldingRegister", "offset": float64(40001), "scale": 0.1, "isSwap": true,
		"nested": map[string]any{"list": []any{float64(1), "two", false, map[string]any{"x": "y"}}},
	}
}

// filler sets every field of a value to something that is not zero, and notes the JSON path of each leaf.
type filler struct {
	t      *testing.T
	n      int
	leaves map[string]bool
}

func (f *filler) fill(v reflect.Value, path string) {
	f.n++
	switch v.Interface().(type) {
	case metav1.TypeMeta:
		return // set by the caller
	case metav1.ObjectMeta:
		v.Set(reflect.ValueOf(metav1.ObjectMeta{Name: "pump", Namespace: "default", Labels: map[string]string{"a": "b"}}))
		return
	case theirs.PropertyType:
		v.SetString(string(theirs.DOUBLE))
		f.leaf(path)
		return
	case theirs.PropertyAccessMode:
		v.SetString(string(theirs.ReadOnly))
		f.leaf(path)
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		f.fill(v.Elem(), path)
	case reflect.Struct:
		for i := range v.NumField() {
			name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
			if v.Type().Field(i).Type == reflect.TypeFor[map[string]any]() {
				v.Field(i).Set(reflect.ValueOf(freeForm())) // their wrappers marshal as what is in them
				f.leaf(path)
				continue
			}
			f.fill(v.Field(i), path+"."+name)
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range 2 {
			f.fill(v.Index(i), path+"[]")
		}
	case reflect.Map:
		v.Set(reflect.ValueOf(map[string]string{"key": fmt.Sprint("value", f.n)}).Convert(v.Type()))
		f.leaf(path)
	case reflect.String:
		v.SetString(f.text(path))
		f.leaf(path)
	case reflect.Bool:
		v.SetBool(true)
		f.leaf(path)
	case reflect.Int, reflect.Int32, reflect.Int64:
		v.SetInt(int64(f.n))
		if strings.HasSuffix(path, ".qos") {
			v.SetInt(2)
		}
		f.leaf(path)
	default:
		f.t.Fatalf("%s has type %s: teach the test to fill it", path, v.Type())
	}
}

// text is a string that is valid where the schema asks for more than a string.
func (f *filler) text(path string) string {
	switch {
	case strings.HasSuffix(path, ".minimum"):
		return "-1.5"
	case strings.HasSuffix(path, ".maximum"):
		return "99"
	}
	return fmt.Sprint("text-", f.n)
}

func (f *filler) leaf(path string) { f.leaves[path] = true }

// filled returns a full object of their kind as generic JSON.
func filled(t *testing.T, kind string, obj any) (doc map[string]any, leaves map[string]bool) {
	t.Helper()
	f := &filler{t: t, leaves: map[string]bool{}}
	f.fill(reflect.ValueOf(obj).Elem(), "")
	reflect.ValueOf(obj).Elem().FieldByName("TypeMeta").Set(reflect.ValueOf(metav1.TypeMeta{Kind: kind, APIVersion: "devices.kubeedge.io/v1beta1"}))
	return generic(t, obj), f.leaves
}

func generic(t *testing.T, v any) map[string]any {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	var doc map[string]any
	if err := json.Unmarshal(b, &doc); err != nil {
		t.Fatal(err)
	}
	return withoutNulls(doc).(map[string]any)
}

// withoutNulls drops fields that are null: Kubernetes treats them as absent, and apimachinery's releases differ in whether
// they write an unset creationTimestamp.
func withoutNulls(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := map[string]any{}
		for k, e := range v {
			if e != nil {
				out[k] = withoutNulls(e)
			}
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = withoutNulls(v[i])
		}
		return out
	}
	return v
}

// leavesAtLeast is how many leaves each kind had in v1.23.0, so that a filler that stops filling is noticed.
var leavesAtLeast = map[string]int{"DeviceModel": 10, "Device": 40, "DeviceStatus": 7}

func TestEveryFieldSurvivesOurTypes(t *testing.T) {
	for _, p := range pairs {
		t.Run(p.kind, func(t *testing.T) {
			want, leaves := filled(t, p.kind, p.theirs())
			if len(leaves) < leavesAtLeast[p.kind] {
				t.Fatalf("only %d leaves were filled: %v", len(leaves), leaves)
			}
			t.Logf("%d leaves", len(leaves))
			b, err := json.Marshal(want)
			if err != nil {
				t.Fatal(err)
			}
			mine := p.ours()
			if err := json.Unmarshal(b, mine); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, generic(t, mine)); diff != "" {
				t.Errorf("theirs → ours loses or changes (-theirs +ours):\n%s", diff)
			}
			// A deep copy must not lose anything either.
			copied := reflect.ValueOf(mine).MethodByName("DeepCopyObject").Call(nil)[0].Interface()
			if diff := cmp.Diff(want, generic(t, copied)); diff != "" {
				t.Errorf("our deep copy differs:\n%s", diff)
			}
			// And their own clients read ours.
			back := p.theirs()
			b, err = json.Marshal(mine)
			if err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal(b, back); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, generic(t, back)); diff != "" {
				t.Errorf("ours → theirs (-want +got):\n%s", diff)
			}
		})
	}
}

// A minimal object of theirs must not gain fields by passing through ours: an absent desired is not desired "".
func TestNothingIsInvented(t *testing.T) {
	for kind, doc := range map[string]string{
		"DeviceModel":  `{"metadata":{"name":"m"},"spec":{"properties":[{"name":"a"}]}}`,
		"Device":       `{"metadata":{"name":"d"},"spec":{"properties":[{"name":"a"},{"name":"b","desired":{"value":""}}],"protocol":{}},"status":{}}`,
		"DeviceStatus": `{"metadata":{"name":"s"},"spec":{},"status":{"twins":[{"propertyName":"a"},{"propertyName":"b","reported":{"value":""}}]}}`,
	} {
		for _, p := range pairs {
			if p.kind != kind {
				continue
			}
			mine := p.ours()
			if err := json.Unmarshal([]byte(doc), mine); err != nil {
				t.Fatal(err)
			}
			var want map[string]any
			if err := json.Unmarshal([]byte(doc), &want); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, generic(t, mine)); diff != "" {
				t.Errorf("%s gains or loses (-want +got):\n%s", kind, diff)
			}
		}
	}
}

// Large integers in configData stay what they are: KubeEdge's own types would round them.
func TestFreeFormIsKeptByteForByte(t *testing.T) {
	const in = `{"big":9007199254740993,"x":1.10}`
	var v ours.VisitorConfig
	if err := json.Unmarshal([]byte(`{"configData":`+in+`}`), &v); err != nil {
		t.Fatal(err)
	}
	if got := string(v.ConfigData.Raw); got != in {
		t.Errorf("configData = %s, want %s", got, in)
	}
}
