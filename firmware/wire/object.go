package wire

//go:generate go run github.com/tinylib/msgp@v1.6.5 -io=false -tests=false

//msgp:limit arrays:8192 maps:64
//msgp:replace Key with:string
//msgp:ignore ObjectRef

// Version says which state of an object somebody holds. A resourceVersion would not do: it changes with our own status
// writes, hides a changed trim rule, and is used again after an etcd restore.
type Version struct {
	UID  string   `msg:"u"`
	Hash [16]byte `msg:"h"` // first 16 bytes of the SHA-256 of the canonical trimmed body
}

// Object is one desired object as the link and the store carry it.
type Object struct {
	Key      Key     `msg:"k"`
	Version  Version `msg:"v"`
	Revision uint64  `msg:"r"`                         // resourceVersion at which the relay read it; informative, never compared for equality
	Absent   bool    `msg:"a,omitempty"`               // the object is referenced, and did not exist as of Revision; Body is empty
	Body     []byte  `msg:"b,omitempty,limit=4194304"` // canonical MessagePack of the trimmed object
}

// ObjectRef names the object an event is about.
type ObjectRef struct {
	APIVersion, Kind, Namespace, Name, UID, FieldPath string
}
