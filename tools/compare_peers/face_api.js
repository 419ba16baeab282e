// Reads photographs for `readers.FaceApi`. On stdin a line of JSON for each, {width, height, rgb} with the pixels in
// base64; on stdout a line for each, a list of its faces. The first line is "ready".
const faceapi = require('@vladmandic/face-api/dist/face-api.node-wasm.js');
const path = require('path');
const readline = require('readline');

async function main() {
  await faceapi.tf.setBackend('wasm');
  await faceapi.tf.ready();
  const models = path.join(path.dirname(require.resolve('@vladmandic/face-api/dist/face-api.node-wasm.js')), '../model');
  const nets = [faceapi.nets.ssdMobilenetv1, faceapi.nets.faceLandmark68Net, faceapi.nets.ageGenderNet];
  for (const net of nets) await net.loadFromDisk(models);
  console.log('ready');
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const { width, height, rgb } = JSON.parse(line);
    const image = faceapi.tf.tensor3d(new Uint8Array(Buffer.from(rgb, 'base64')), [height, width, 3], 'int32');
    const found = await faceapi.detectAllFaces(image).withFaceLandmarks().withAgeAndGender();
    image.dispose();
    const faces = found.map(({ detection: { box }, age, gender }) => (
      { box: [box.x, box.y, box.width, box.height], age, gender }));
    console.log(JSON.stringify(faces));
  }
}

main();
