// Calls methods of deepl-node and tells what came of each, as JSON on a line.
//
// Arguments: where deepl-node is installed, the server's URL, the key, the calls as JSON ([[method,
// arguments], ...]).

"use strict";

const [folder, serverUrl, key, calls] = process.argv.slice(2);
const deepl = require(`${folder}/node_modules/deepl-node`);

async function main() {
  const client = new deepl.DeepLClient(key, { serverUrl, maxRetries: 0 });
  for (const [method, given] of JSON.parse(calls)) {
    let told;
    try {
      told = { result: await client[method](...given) };
    } catch (error) {
      told = { error: error.constructor.name, message: error.message };
    }
    console.log(JSON.stringify(told));
  }
}

main();
