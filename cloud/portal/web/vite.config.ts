// Builds the pages into cloud/portal/static; `npm run dev` proxies the API of a running portal.
import { fileURLToPath } from 'node:url'
import vue from '@vitejs/plugin-vue'
import { defineConfig } from 'vite'

export default defineConfig({
  plugins: [vue()],
  resolve: { alias: { '@': fileURLToPath(new URL('./src', import.meta.url)) } },
  build: { outDir: '../static', emptyOutDir: true, target: 'es2022', chunkSizeWarningLimit: 700, sourcemap: false, assetsInlineLimit: 0 },
  server: { proxy: { '/api': process.env.KANG_PORTAL ?? 'http://127.0.0.1:8420' } },
})
