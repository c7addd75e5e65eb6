# Privilege level 0, 64-bit mode. Kinds: 0 leave, 1 resume. Segments: 0x40 data, not present; 0x48 code, not present.

# Vector 0, divide error.
check divide_by_zero, 0, 0, at, 0, 0
    xor edx, edx
    mov eax, 1
    xor ecx, ecx
divide_by_zero_at:
    div ecx
    ret

check divide_overflow, 0, 0, at, 0, 0
    mov eax, 0x80000000
    cdq
    mov ecx, -1
divide_overflow_at:
    idiv ecx
    ret

check divide_quotient_too_large, 0, 0, at, 0, 0
    mov ax, 0x1000
    mov cl, 0x10
divide_quotient_too_large_at:
    div cl
    ret

# Vectors 3 and 4: traps.
check breakpoint, 3, 0, after, 1, 0
    xor eax, eax
    int3
breakpoint_after:
    inc eax
    ret

check interrupt_3, 3, 0, after, 1, 0
    xor eax, eax
    .byte 0xCD, 3
interrupt_3_after:
    inc eax
    ret

check interrupt_4, 4, 0, after, 1, 0
    xor eax, eax
    int 4
interrupt_4_after:
    inc eax
    ret

# An INT n to a vector with an error code pushes none: the handler's frame would be shifted. So only vectors without.
check interrupt_18, 18, 0, after, 1, 0
    xor eax, eax
    int 18
interrupt_18_after:
    inc eax
    ret

# Vector 6, invalid opcode.
check undefined_2, 6, 0, at, 0, 0
undefined_2_at:
    ud2
    ret

check undefined_1, 6, 0, at, 0, 0
undefined_1_at:
    .byte 0x0F, 0xB9, 0xC0
    ret

check push_of_es, 6, 0, at, 0, 0
push_of_es_at:
    .byte 0x06
    ret

check lock_of_a_register, 6, 0, at, 0, 0
lock_of_a_register_at:
    .byte 0xF0, 0xFF, 0xC0
    ret

check lock_of_a_load, 6, 0, at, 0, 0
    lea rcx, [rsp - 64]
lock_of_a_load_at:
    .byte 0xF0, 0x8B, 0x01
    ret

check control_register_1, 6, 0, at, 0, 0
control_register_1_at:
    .byte 0x0F, 0x20, 0xC8
    ret

check sse_switched_off, 6, 0, at, 0, 0
    mov rax, cr4
    and rax, ~0x200
    mov cr4, rax
sse_switched_off_at:
    addps xmm0, xmm1
    ret

# Vector 7, no x87: CR0.TS.
check x87_switched_away, 7, 0, at, 0, 0
    mov rax, cr0
    or rax, 8
    mov cr0, rax
x87_switched_away_at:
    fld1
    ret

check sse_switched_away, 7, 0, at, 0, 0
    mov rax, cr0
    or rax, 8
    mov cr0, rax
sse_switched_away_at:
    addps xmm0, xmm1
    ret

check wait_switched_away, 7, 0, at, 0, 0
    mov rax, cr0
    or rax, 0xA
    mov cr0, rax
wait_switched_away_at:
    fwait
    ret

# Vectors 11 and 12, not present and stack.
check segment_not_present, 11, 0x40, at, 0, 0
    mov eax, 0x40
segment_not_present_at:
    mov ds, eax
    ret

check code_segment_not_present, 11, 0x48, at, 0, 0
    push 0x48
    lea rax, [rip + code_segment_not_present_at]
    push rax
code_segment_not_present_at:
    retfq
    ret

check stack_segment_not_present, 12, 0x40, at, 0, 0
    mov eax, 0x40
stack_segment_not_present_at:
    mov ss, eax
    ret

check stack_not_canonical, 12, 0, at, 0, 0
    movabs rbp, 0x8000000000000000
stack_not_canonical_at:
    mov eax, [rbp]
    ret

# Vector 13, general protection.
check address_not_canonical, 13, 0, at, 0, 0
    movabs rax, 0x8000000000000000
address_not_canonical_at:
    mov eax, [rax]
    ret

check jump_not_canonical, 13, 0, at, 0, 0
    movabs rax, 0x800000000000
jump_not_canonical_at:
    jmp rax

check segment_beyond_the_table, 13, 0x1230, at, 0, 0
    mov eax, 0x1230
segment_beyond_the_table_at:
    mov es, eax
    ret

check segment_of_the_local_table, 13, 0x0C, at, 0, 0
    xor eax, eax
    lldt ax
    mov eax, 0x0C
segment_of_the_local_table_at:
    mov es, eax
    ret

check null_stack_at_level_3, 13, 0, at, 0, 0
    mov eax, 3
null_stack_at_level_3_at:
    mov ss, eax
    ret

check null_code_segment, 13, 0, at, 0, 0
    push 0
    lea rax, [rip + null_code_segment_at]
    push rax
null_code_segment_at:
    retfq
    ret

check code_into_a_data_segment, 13, 0x10, at, 0, 0
    push 0x10
    lea rax, [rip + code_into_a_data_segment_at]
    push rax
code_into_a_data_segment_at:
    retfq
    ret

check busy_task, 13, 0x28, at, 0, 0
    mov eax, 0x28
busy_task_at:
    ltr ax
    ret

# Error code: vector times 8, and 2 for the interrupt descriptor table.
check gate_beyond_the_table, 13, 0x402, at, 0, 0
gate_beyond_the_table_at:
    int 0x80
    ret

check reserved_bit_of_cr4, 13, 0, at, 0, 0
    mov rax, cr4
    bts rax, 15
reserved_bit_of_cr4_at:
    mov cr4, rax
    ret

check paging_without_protection, 13, 0, at, 0, 0
    mov rax, cr0
    and rax, ~1
paging_without_protection_at:
    mov cr0, rax
    ret

check unknown_register_of_the_model, 13, 0, at, 0, 0
    mov ecx, 0xC0012345
    xor eax, eax
    xor edx, edx
unknown_register_of_the_model_at:
    wrmsr
    ret

check pointer_register_not_canonical, 13, 0, at, 0, 0
    mov ecx, 0xC0000101
    xor eax, eax
    mov edx, 0x80000000
pointer_register_not_canonical_at:
    wrmsr
    ret

check sse_unaligned, 13, 0, at, 0, 0
    lea rcx, [rsp - 64]
    and rcx, -16
    inc rcx
sse_unaligned_at:
    movaps xmm0, [rcx]
    ret

check iret_to_another_task, 13, 0, at, 0, 0
    pushfq
    or qword ptr [rsp], 0x4000
    popfq
iret_to_another_task_at:
    iretq

# Vector 14, page fault: nobody maps what is at 64 TiB.
check read_of_nothing, 14, 0, at, 0, 0x400000001238
    movabs rax, 0x400000001238
read_of_nothing_at:
    mov eax, [rax]
    ret

check write_to_nothing, 14, 2, at, 0, 0x400000002468
    movabs rax, 0x400000002468
write_to_nothing_at:
    mov [rax], eax
    ret

check jump_to_nothing, 14, 0, address, 0, 0x400000003579
    movabs rax, 0x400000003579
    jmp rax
.set jump_to_nothing_address, 0x400000003579

# Vector 16, x87 error: the next waiting instruction raises it.
check x87_error, 16, 0, at, 0, 0
    fninit
    push 0x37B
    fldcw [rsp]
    pop rax
    fld1
    fldz
    fdivp
x87_error_at:
    fwait
    ret

# Vector 19, SSE error: division by zero is not masked.
check sse_error, 19, 0, at, 0, 0
    push 0x1D80
    ldmxcsr [rsp]
    pop rax
    xorps xmm1, xmm1
    mov eax, 0x3F800000
    movd xmm0, eax
sse_error_at:
    divss xmm0, xmm1
    ret

check sse_error_switched_off, 6, 0, at, 0, 0
    mov rax, cr4
    and rax, ~0x400
    mov cr4, rax
    push 0x1D80
    ldmxcsr [rsp]
    pop rax
    xorps xmm1, xmm1
    mov eax, 0x3F800000
    movd xmm0, eax
sse_error_switched_off_at:
    divss xmm0, xmm1
    ret
