// js-ipfs 0.66 needs Promise.withResolvers, which Node has from version 22 on.
Promise.withResolvers ??= function () {
  let resolve, reject
  const promise = new this((settle, fail) => { resolve = settle; reject = fail })
  return { promise, resolve, reject }
}
