// The visitor's own camera and microphone: which there are, asking for them, and why they can't be had, in words.

const PICTURE = { width: { ideal: 640 }, height: { ideal: 480 }, frameRate: { ideal: 30 } };
// What a call leaves out of the sound (a dog, a window that breaks) is what is listened for here.
const SOUND = { echoCancellation: false, noiseSuppression: false, autoGainControl: true, channelCount: { ideal: 1 } };

export const OFF = "off";

// Why a camera can't even be asked for, or "".
export function obstacle() {
  if (navigator.mediaDevices?.getUserMedia) return "";
  if (isSecureContext) return "This browser gives no page a camera. Use a current Firefox, Chromium or Safari.";
  const local = new URL(location.href);
  local.hostname = "localhost";
  local.hash = "";
  const rule = "Browsers give a camera only to pages that come by https or from the same machine.";
  return `${rule} Open this page by https, or, on the machine that runs the service, as ${local}`;
}

// { cameras, microphones }: [{ id, name }]; names are empty until the visitor has agreed once.
export async function devices() {
  const all = await navigator.mediaDevices.enumerateDevices();
  const of = (kind) => all.filter((one) => one.kind === kind).map(({ deviceId, label }) => ({ id: deviceId, name: label }));
  return { cameras: of("videoinput"), microphones: of("audioinput") };
}

// `camera`, `microphone`: a device's id, "" for the one the browser prefers, OFF for none.
export function open(camera, microphone) {
  const wanted = (choice, settings) => choice !== OFF && { ...settings, ...(choice ? { deviceId: { exact: choice } } : {}) };
  return navigator.mediaDevices.getUserMedia({ video: wanted(camera, PICTURE), audio: wanted(microphone, SOUND) });
}

// What getUserMedia was refused for, with the remedy.
export function refusal(error, camera, microphone) {
  const what = camera === OFF ? "microphone" : microphone === OFF ? "camera" : "camera or microphone";
  if (error.name === "NotAllowedError" || error.name === "SecurityError")
    return `Permission for the ${what} was denied. Allow it for this page (the sign beside the address), then start again.`;
  if (error.name === "NotFoundError") return `No ${what} was found. Connect one, or turn off what is missing.`;
  if (error.name === "NotReadableError" || error.name === "AbortError")
    return `The ${what} can't be opened. Another program may be using it: close that, then start again.`;
  if (error.name === "OverconstrainedError") return `The chosen ${what} is gone. Choose another one.`;
  return `The ${what} can't be used: ${error.message || error.name}.`;
}
