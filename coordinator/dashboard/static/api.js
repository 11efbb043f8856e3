// Asks the coordinator. Holds the token, in this tab's session storage; it came behind the `#` of the address.

const API = "/api/v1";
const KEY = "shoal-token";

let token = "";

export class Refused extends Error {
  constructor(status, said) {
    super(said);
    this.status = status;
  }
}

export function takeToken() {
  try {
    token = sessionStorage.getItem(KEY) ?? "";
  } catch {
    token = "";
  }
  const given = /[#&]token=([^&]+)/.exec(location.hash);
  if (!given) return;
  try {
    keepToken(decodeURIComponent(given[1]));
  } catch {
    // no token was ever written so
  }
  history.replaceState(null, "", location.pathname); // so that it is in no bookmark and no screenshot
}

export function keepToken(given) {
  token = given.trim();
  try {
    if (token) sessionStorage.setItem(KEY, token);
    else sessionStorage.removeItem(KEY);
  } catch {
    // kept until the page goes, then
  }
}

export const hasToken = () => token !== "";

// Headers hold bytes: a token with other characters is none of ours, and the coordinator says so.
const bearer = () => (/^[\x21-\x7e]+$/.test(token) ? { Authorization: `Bearer ${token}` } : {});

export function open(path, signal) {
  return fetch(API + path, { headers: bearer(), cache: "no-store", credentials: "omit", signal });
}

async function answer(asked) {
  let response;
  try {
    response = await asked;
  } catch {
    throw new Refused(0, "the coordinator does not answer");
  }
  let read = null;
  try {
    read = await response.json();
  } catch {
    // told by its status
  }
  if (!response.ok) throw new Refused(response.status, String(read?.error ?? response.statusText));
  return read;
}

export const get = (path) => answer(open(path));

export function post(path, body) {
  const headers = { "Content-Type": "application/json", ...bearer() };
  const sent = JSON.stringify(body);
  return answer(
    fetch(API + path, { method: "POST", headers, body: sent, cache: "no-store", credentials: "omit" }),
  );
}
