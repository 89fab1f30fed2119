// An independent Modbus TCP server (npm modbus-serial) for the interop test: holding registers and coils in memory, one line of JSON when ready.
const ModbusRTU = require("modbus-serial");
const holding = new Array(200).fill(0);
const coils = new Array(16).fill(false);
holding[1] = 12345; holding[4] = 653; holding[5] = 65486; holding[30] = 1;
const vector = {
  getHoldingRegister: (a) => { if (a >= 200) { throw { modbusErrorCode: 2 }; } return holding[a]; },
  getCoil: (a) => coils[a],
  setRegister: (a, v) => { holding[a] = v; },
  setCoil: (a, v) => { coils[a] = v; },
};
const server = new ModbusRTU.ServerTCP(vector, { host: "127.0.0.1", port: Number(process.argv[2]), unitID: 3 });
server.on("initialized", () => console.log(JSON.stringify({ ready: true })));
server.on("socketError", (error) => console.error(String(error)));
