// One OPC UA server for the integration tests, on loopback. Its options are the JSON in argv[2]; when it is ready it prints one
// line of JSON with its ports. See doc.go for what is in it.
"use strict";
const http = require("node:http");
const path = require("node:path");
const opt = JSON.parse(process.argv[2]);
const ua = require("node-opcua");
const { DataType, Variant, VariantArrayType, StatusCodes, SecurityPolicy, MessageSecurityMode } = ua;

const scalars = {
  Boolean: true, SByte: -8, Byte: 200, Int16: -1600, UInt16: 60000, Int32: -320000, UInt32: 4000000000,
  Int64: ua.coerceInt64("-9007199254740993"), UInt64: ua.coerceUInt64("18446744073709551615"), Float: 1.5, Double: Math.PI, String: "pump",
  DateTime: new Date("2026-03-01T12:00:00.250Z"), Guid: "72962B91-FA75-4AE6-8D28-B404DC7DAF63", ByteString: Buffer.from([1, 2, 254]),
  XmlElement: "<a>b</a>", NodeId: ua.resolveNodeId("ns=1;s=target"), ExpandedNodeId: new ua.ExpandedNodeId(ua.NodeIdType.NUMERIC, 85, 0),
  StatusCode: StatusCodes.BadOutOfService, QualifiedName: { namespaceIndex: 1, name: "q" }, LocalizedText: { locale: "de", text: "Pumpe" },
};

function fill(server) {
  const space = server.engine.addressSpace;
  const ns = space.registerNamespace("urn:skerry:test");
  const folder = (name, parent) => ns.addFolder(parent, { browseName: name, nodeId: "s=" + name });
  const root = folder("Test", space.rootFolder.objects);
  const cells = new Map();
  const add = (parent, name, dataType, variant, extra) => {
    const v = ns.addVariable({ organizedBy: parent, browseName: name, nodeId: "s=" + name, dataType, minimumSamplingInterval: 10, ...extra });
    v.setValueFromSource(variant);
    cells.set(name, v);
    return v;
  };
  const types = folder("Types", root);
  for (const [name, value] of Object.entries(scalars)) {
    const dataType = DataType[name];
    add(types, name, name, { dataType, arrayType: VariantArrayType.Scalar, value });
    if (name !== "ExpandedNodeId") {
      add(types, name + "Array", name, new Variant({ dataType, arrayType: VariantArrayType.Array, value: [value, value, value] }), { valueRank: 1 });
    }
  }
  add(types, "DoubleMatrix", "Double", new Variant({ dataType: DataType.Double, arrayType: VariantArrayType.Matrix, dimensions: [2, 3], value: new Float64Array([1, 2, 3, 4, 5, 6]) }),
    { valueRank: 2, arrayDimensions: [2, 3] });
  add(types, "Ten", "Int32", new Variant({ dataType: DataType.Int32, arrayType: VariantArrayType.Array, value: Int32Array.from([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]) }), { valueRank: 1 });
  add(types, "Any", "BaseDataType", { dataType: DataType.Double, value: 1 });
  add(types, "Number", "Number", { dataType: DataType.Int16, value: 1 });
  add(types, "ReadOnly", "Int32", { dataType: DataType.Int32, value: 7 }, { accessLevel: "CurrentRead", userAccessLevel: "CurrentRead" });
  add(types, "Forbidden", "Int32", { dataType: DataType.Int32, value: 7 }, { userAccessLevel: "" });

  const structures = folder("Structures", root);
  const own = space.getNamespaceIndex("urn:skerry:types");
  const type = (n) => space.findDataType(ua.resolveNodeId(`ns=${own};i=${n}`));
  const struct = (name, n, fields) => {
    const made = fields.map((f) => space.constructExtensionObject(type(n), f));
    const variant = made.length === 1 ? { dataType: DataType.ExtensionObject, value: made[0] } : new Variant({ dataType: DataType.ExtensionObject, arrayType: VariantArrayType.Array, value: made });
    add(structures, name, type(n).nodeId, variant, made.length === 1 ? {} : { valueRank: 1 });
  };
  const corner = (x) => ({ x, y: x + 0.5, z: -x });
  struct("Point", 3002, [corner(1)]);
  struct("Points", 3002, [corner(1), corner(2)]);
  struct("Pump", 3003, [{ name: "P1", state: 1, position: corner(3), speeds: [1.5, 2.5], corners: [corner(4), corner(5)], since: new Date("2026-03-01T12:00:00Z"),
    serial: Buffer.from("abc"), starts: ua.coerceInt64("9007199254740993") }]);
  struct("ReadingFull", 3004, [{ value: 2.5, unit: "bar", limit: 6, good: true }]);
  struct("ReadingBare", 3004, [{ value: 2.5, good: false }]);
  struct("SettingNumber", 3005, [{ number: 4.5 }]);
  struct("SettingText", 3005, [{ text: "auto" }]);
  add(structures, "State", type(3001).nodeId, { dataType: DataType.Int32, value: 2 });

  const live = folder("Live", root);
  let tick = 0;
  const counter = add(live, "Counter", "UInt32", { dataType: DataType.UInt32, value: 0 });
  const sine = add(live, "Sine", "Double", { dataType: DataType.Double, value: 0 });
  const ramp = ns.addAnalogDataItem({ organizedBy: live, browseName: "Ramp", nodeId: "s=Ramp", dataType: "Double", definition: "", engineeringUnitsRange: { low: 0, high: 100 },
    engineeringUnits: ua.standardUnits.degree_celsius, minimumSamplingInterval: 10, value: { dataType: DataType.Double, value: 0 } });
  cells.set("Ramp", ramp);
  setInterval(() => {
    tick++;
    counter.setValueFromSource({ dataType: DataType.UInt32, value: tick });
    sine.setValueFromSource({ dataType: DataType.Double, value: Math.sin(tick / 10) });
  }, 50);

  const many = folder("Many", root);
  for (let i = 0; i < (opt.many || 2001); i++) {
    add(many, "N" + i, "Double", { dataType: DataType.Double, value: i });
  }

  // Their changes are noted when they happen, if the client asks for the interval 0: none is left out.
  const exact = folder("Exact", root);
  for (let i = 0; i < 2; i++) {
    add(exact, "E" + i, "Double", { dataType: DataType.Double, value: i }, { minimumSamplingInterval: 0 });
  }

  const machine = ns.addObject({ organizedBy: root, browseName: "Machine", nodeId: "s=Machine" });
  const method = (name, inputs, outputs, run) => ns.addMethod(machine, { browseName: name, nodeId: "s=" + name, inputArguments: inputs, outputArguments: outputs })
    .bindMethod((args, context, done) => run(args, (r) => done(null, r)));
  const arg = (name, dataType, valueRank) => ({ name, dataType, description: { text: name }, valueRank: valueRank ?? -1 });
  method("Multiply", [arg("a", DataType.Double), arg("b", DataType.Double)], [arg("product", DataType.Double)],
    (a, done) => done({ statusCode: StatusCodes.Good, outputArguments: [{ dataType: DataType.Double, value: a[0].value * a[1].value }] }));
  method("Describe", [arg("count", DataType.UInt16), arg("name", DataType.String)], [arg("text", DataType.String), arg("list", DataType.Int32, 1)],
    (a, done) => done({ statusCode: StatusCodes.Good, outputArguments: [{ dataType: DataType.String, value: a[1].value.repeat(a[0].value) },
      new Variant({ dataType: DataType.Int32, arrayType: VariantArrayType.Array, value: Int32Array.from([a[0].value, 2, 3]) })] }));
  method("Fail", [], [], (a, done) => done({ statusCode: StatusCodes.BadOutOfRange, outputArguments: [] }));
  method("Reset", [], [], (a, done) => { tick = 0; done({ statusCode: StatusCodes.Good, outputArguments: [] }); });
  return cells;
}

// shown is what a variable holds, in JSON: 64-bit integers as decimal text, bytes as base64, times as milliseconds.
function shown(v) {
  const one = (x) => {
    switch (true) {
      case x === null || x === undefined: return null;
      case v.dataType === DataType.Int64: return ua.Int64ToBigInt(x).toString();
      case v.dataType === DataType.UInt64: return ua.UInt64ToBigInt(x).toString();
      case Buffer.isBuffer(x): return x.toString("base64");
      case x instanceof Date: return x.getTime();
      case v.dataType === DataType.LocalizedText || v.dataType === DataType.QualifiedName: return x;
      case v.dataType === DataType.StatusCode: return x.value;
      case v.dataType === DataType.NodeId || v.dataType === DataType.ExpandedNodeId: return x.toString();
      case Number.isNaN(x): return "NaN";
      case x === Infinity: return "Inf";
      case x === -Infinity: return "-Inf";
      default: return x;
    }
  };
  // An Int64 is an array of two words itself.
  const value = v.arrayType === VariantArrayType.Scalar ? one(v.value) : Array.from(v.value ?? [], one);
  return { type: DataType[v.dataType], array: v.arrayType !== VariantArrayType.Scalar, dimensions: v.dimensions ?? null, value };
}

function control(server, cells) {
  const stats = () => {
    const e = server.engine;
    const items = Object.values(e._sessions).flatMap((s) => Array.from(s.publishEngine.subscriptions)).reduce((n, s) => n + s.monitoredItemCount, 0);
    return { sessions: e.currentSessionCount, subscriptions: e.currentSubscriptionCount, items, requests: server.transactionsCount, bytesRead: server.bytesRead, bytesWritten: server.bytesWritten };
  };
  const dispatch = (req) => {
    const url = new URL(req.url, "http://loopback");
    const name = url.searchParams.get("node");
    const cell = cells.get(name);
    switch (url.pathname) {
      case "/stats": return stats();
      case "/get": return shown(cell.readValue().value);
      case "/set": {
        const v = cell.readValue().value;
        const status = url.searchParams.get("status");
        const value = url.searchParams.has("value") ? JSON.parse(url.searchParams.get("value")) : v.value;
        cell.setValueFromSource({ dataType: v.dataType, arrayType: v.arrayType, value }, status ? StatusCodes[status] : StatusCodes.Good);
        return {};
      }
      case "/forget": { // every subscription is gone, and no client is told
        let n = 0;
        for (const s of Object.values(server.engine._sessions)) {
          for (const sub of Array.from(s.publishEngine.subscriptions)) { s.deleteSubscription(sub.id); n++; }
        }
        return { forgotten: n };
      }
      case "/logout": { // every session is gone
        const all = Object.values(server.engine._sessions);
        for (const s of all) server.engine.closeSession(s.authenticationToken, true, "Terminated");
        return { closed: all.length };
      }
      default: throw new Error("no " + url.pathname);
    }
  };
  return http.createServer((req, res) => {
    try {
      res.end(JSON.stringify(dispatch(req)));
    } catch (err) {
      res.statusCode = 400;
      res.end(String(err));
    }
  });
}

async function main() {
  const pki = (name, auto) => new ua.OPCUACertificateManager({ rootFolder: path.join(opt.dir, name), automaticallyAcceptUnknownCertificate: auto });
  const limits = { maxNodesPerRead: 300, maxNodesPerWrite: 50, maxMonitoredItemsPerCall: 400, maxNodesPerBrowse: 20, maxNodesPerTranslateBrowsePathsToNodeIds: 10, maxNodesPerMethodCall: 5, ...opt.limits };
  const server = new ua.OPCUAServer({
    port: opt.port, host: "127.0.0.1", hostname: "127.0.0.1", alternateHostname: ["127.0.0.1"],
    nodeset_filename: [ua.nodesets.standard, path.join(opt.dir, "types.xml")],
    certificateFile: opt.certificate, privateKeyFile: opt.key,
    serverInfo: { applicationUri: opt.applicationURI, productUri: "urn:skerry:peer", applicationName: { text: "peer" } },
    serverCertificateManager: pki("server", !opt.strictClients), userCertificateManager: pki("users", false),
    securityPolicies: [SecurityPolicy.None, SecurityPolicy.Basic256Sha256, SecurityPolicy.Aes128_Sha256_RsaOaep, SecurityPolicy.Aes256_Sha256_RsaPss],
    securityModes: [MessageSecurityMode.None, MessageSecurityMode.Sign, MessageSecurityMode.SignAndEncrypt],
    allowAnonymous: !opt.noAnonymous, userManager: { isValidUser: (u, p) => u === "operator" && p === "s3cret-ü" },
    registerServerMethod: ua.RegisterServerMethod.HIDDEN, maxConnectionsPerEndpoint: 200,
    serverCapabilities: { maxSessions: 200, minSupportedSampleRate: 0, maxBrowseContinuationPoints: 50, operationLimits: limits },
    requestExactMatchOnServerUri: false,
  });
  await server.initialize();
  const cells = fill(server);
  if (opt.conformance) {
    await require("node-opcua-address-space-for-conformance-testing").build_address_space_for_conformance_testing(server.engine.addressSpace, {});
  }
  await server.start();
  const ctl = control(server, cells);
  ctl.listen(opt.control, "127.0.0.1", () => console.log(JSON.stringify({ ready: true })));
  for (const signal of ["SIGTERM", "SIGINT"]) {
    process.on(signal, async () => { await server.shutdown(0); process.exit(0); });
  }
}
main().catch((err) => { console.error(err); process.exit(1); });
