// Asks the server.

const ask = async (path, options) => {
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new Error("The program does not answer: start it again. What was saved is in the file.");
  }
  const answer = await response.json().catch(() => ({ error: response.statusText }));
  if (!response.ok) throw new Error(answer.error);
  return answer;
};
export const get = (path, query = {}) => ask(`${path}?${new URLSearchParams(query)}`);
export const post = (path, body = {}) =>
  ask(path, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
  });
export const idOf = ({ repo, number }) => ({ repo, number });
export const nameOf = ({ repo, number }) => `${repo}#${number}`;
